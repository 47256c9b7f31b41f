import type { Session } from "session-service-client";
import { describe, expect, it } from "vitest";
import { sessionLines } from "../src/model/sessionLines.ts";

function session(sessionId: string, createdAt: string, fields: Record<string, unknown> = {}): Session {
  const instants = { createdAt, lastActive: LATE, expiresAt: LATE };
  return { sessionId, userId: "1", status: "ACTIVE", deviceId: `device-${sessionId}`, ...instants, fields };
}

const EARLY = "2026-11-20T10:00:00Z";
const LATE = "2026-11-20T11:00:00Z";

describe("sessionLines", () => {
  it("has this page's session first, then the youngest", () => {
    const lines = sessionLines([session("a", EARLY), session("b", LATE), session("c", EARLY)], "c");
    expect(lines.map(({ sessionId, isHere }) => [sessionId, isHere])).toEqual([
      ["c", true],
      ["b", false],
      ["a", false],
    ]);
  });

  it("reads what the metadata says", () => {
    const fields = {
      pod_name: "pod-2",
      simulator_status: "RUNNING",
      frontend_connections: 2,
      user_agent: "curl/8.0",
    };
    expect(sessionLines([session("a", EARLY, fields)], null)[0]).toMatchObject({
      device: "curl",
      statusWords: "Active, 2 connections",
      podName: "pod-2",
      marketWords: "Running",
      sinceMs: Date.parse(EARLY),
    });
  });

  it("does without metadata", () => {
    expect(sessionLines([session("a", "never")], null)[0]).toMatchObject({
      device: "device-a",
      deviceTail: "…ce-a",
      podName: null,
      marketWords: "None",
      sinceMs: null,
    });
  });
});
