import type { ConnectionStatus } from "session-service-client";

/** Close codes of docs/protocol.md that say why a connection was lost. */
const CAUSES: Readonly<Record<number, string>> = {
  1001: "the pod went away",
  1006: "the connection broke off",
  1011: "the pod made a mistake",
  1012: "the pod shut down",
  1013: "the service could not check the token at that moment",
  4008: "this page read too slowly",
  4009: "the pod heard nothing from this page",
  4029: "this page sent too many messages",
  4408: "the token came too late",
};

/** Why there is no connection, for the log. */
export function lossWords({ closeCode, reason }: Pick<ConnectionStatus, "closeCode" | "reason">): string {
  const cause = closeCode === null ? undefined : CAUSES[closeCode];
  if (closeCode === null) return reason || "the pod does not answer";
  return `${cause ?? (reason || "closed")}, ${closeCode}`;
}
