/**
 * Has the pod at `podUrl` drop the sockets of this client as a failing network would (local run only; docs/local-run.md).
 * Resolves with how many there were; rejects with Error where the pod does not do it.
 */
export async function cutConnection(podUrl: string, clientId: string, token: string): Promise<number> {
  const path = `/api/local/connections/${encodeURIComponent(clientId)}/cut`;
  const answer = await fetch(new URL(path, podUrl), {
    method: "POST",
    headers: { Authorization: `Bearer ${token}` },
  });
  if (!answer.ok) throw new Error(`The pod answered ${answer.status}`);
  return ((await answer.json()) as { cut: number }).cut;
}
