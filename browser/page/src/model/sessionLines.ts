import type { Session } from "session-service-client";
import { deviceLabel } from "./deviceLabel.ts";
import { simulatorProgress } from "./simulatorProgress.ts";

/** One session as it is shown. `isHere`: it is the one that this page is connected to. */
export interface SessionLine {
  readonly sessionId: string;
  readonly deviceId: string;
  readonly device: string;
  /** The end of the device's id: two devices may be called the same. */
  readonly deviceTail: string;
  readonly isHere: boolean;
  readonly statusWords: string;
  readonly podName: string | null;
  readonly marketWords: string;
  /** When it began. */
  readonly sinceMs: number | null;
}

/** This page's session first, then the youngest. When they were active says little: to list them is to use them. */
export function sessionLines(sessions: readonly Session[], thisSessionId: string | null): SessionLine[] {
  return sessions
    .map((session) => sessionLine(session, thisSessionId))
    .sort((one, other) =>
      one.isHere === other.isHere ? (other.sinceMs ?? 0) - (one.sinceMs ?? 0) : one.isHere ? -1 : 1,
    );
}

function sessionLine(session: Session, thisSessionId: string | null): SessionLine {
  const deviceId = session.deviceId ?? "";
  const sinceMs = Date.parse(session.createdAt);
  return {
    sessionId: session.sessionId,
    deviceId,
    device: deviceLabel(text(session.fields.user_agent), deviceId),
    deviceTail: `…${deviceId.slice(-4)}`,
    isHere: session.sessionId === thisSessionId,
    statusWords: statusWords(session.status, count(session.fields.frontend_connections)),
    podName: text(session.fields.pod_name),
    marketWords: marketWords(text(session.fields.simulator_status)),
    sinceMs: Number.isNaN(sinceMs) ? null : sinceMs,
  };
}

function statusWords(status: string, connections: number): string {
  switch (status) {
    case "ACTIVE":
      return connections > 1 ? `Active, ${connections} connections` : "Active";
    case "RECONNECTING":
      return "Reconnecting";
    case "INACTIVE":
      return "Not connected";
    case "EXPIRED":
      return "Ended";
    default:
      return status;
  }
}

function marketWords(status: string | null): string {
  return status === null || status === "NONE"
    ? "None"
    : simulatorProgress({ status, reason: null, queuePosition: null }).label;
}

function text(field: unknown): string | null {
  return typeof field === "string" && field !== "" ? field : null;
}

function count(field: unknown): number {
  return typeof field === "number" ? field : 0;
}
