import type { Connection } from "session-service-client";
import { cutConnection } from "./cutConnection.ts";
import type { Identity } from "./identity.ts";
import type { PodsPanel } from "./panel/podsPanel.ts";

/** What can be done to one's own connection in the local run, to see what survives. */
export type Trial = "cut" | "stop" | "kill";

export interface TrialResult {
  readonly tone: "good" | "bad";
  readonly words: string;
}

/** Makes the trial on the pod that this connection is on. Never rejects. */
export async function makeTrial(
  trial: Trial,
  connection: Connection | null,
  identity: Identity,
  pods: PodsPanel,
): Promise<TrialResult> {
  const connected = connection?.connected;
  if (!connected || connection.status.state !== "open") {
    return { tone: "bad", words: "There is no connection at this moment. Try again when it is back." };
  }
  const { podName, url, clientId } = connected;
  if (trial === "stop") return pods.stop(podName);
  if (trial === "kill") return pods.kill(podName);
  try {
    const cut = await cutConnection(url, clientId, await identity.getToken("rest"));
    if (cut > 0) return { tone: "good", words: `${podName} cut this page's connection.` };
    return { tone: "bad", words: "There was no connection to cut. Try again." };
  } catch {
    // Whatever kept the pod from it, the next try tells whether it is still so.
    return { tone: "bad", words: `${podName} did not cut it. Try again when the connection is back.` };
  }
}
