import { beforeEach, describe, expect, it } from "vitest";
import { ConnectionLog, MAX_ENTRIES } from "../src/model/connectionLog.ts";

let log: ConnectionLog;

beforeEach(() => {
  log = new ConnectionLog();
  log.arrived({ podName: "pod-1", resumed: false, pauseMs: null, cause: null }, 0);
});

describe("ConnectionLog", () => {
  it("tells the first connection without a pause", () => {
    expect(log.entries).toMatchObject([{ kind: "connected", words: "Connected to pod-1.", pauseMs: null }]);
  });

  it("tells a loss at once, and makes one entry of it and of its end", () => {
    log.lost("the connection broke off", 1000);
    expect(log.entries[0]).toMatchObject({ kind: "lost", atMs: 1000 });
    log.arrived({ podName: "pod-2", resumed: true, pauseMs: 87, cause: "lost" }, 1087);
    expect(log.entries).toHaveLength(2);
    expect(log.entries[0]).toMatchObject({
      kind: "recovered",
      atMs: 1000,
      pauseMs: 87,
      words: "Lost pod-1 (the connection broke off). Back on pod-2 after 87 ms, continued where it stopped.",
    });
  });

  it("counts the tries of one loss", () => {
    log.lost("the connection broke off", 1000);
    log.lost("the pod does not answer", 1200);
    log.lost("the pod does not answer", 1500);
    log.arrived({ podName: "pod-2", resumed: false, pauseMs: 700, cause: "lost" }, 1700);
    expect(log.entries).toHaveLength(2);
    expect(log.entries[0]?.words).toContain("after 700 ms at try 3, with a new picture of the market");
  });

  it("tells a move by its cause", () => {
    log.arrived({ podName: "pod-3", resumed: true, pauseMs: 0, cause: "pod_terminating" }, 5000);
    expect(log.entries[0]).toMatchObject({
      kind: "moved",
      pauseMs: 0,
      words: "Moved from pod-1 to pod-3 before it shut down, without a pause, continued where it stopped.",
    });
  });

  it("begins anew after an end", () => {
    log.ended("This session was ended.", 1000);
    log.arrived({ podName: "pod-2", resumed: false, pauseMs: null, cause: null }, 2000);
    expect(log.entries.map(({ kind }) => kind)).toEqual(["connected", "ended", "connected"]);
  });

  it("knows nothing of whoever was here before once it is cleared", () => {
    const { version } = log;
    log.lost("the connection broke off", 1000);
    log.clear();
    expect(log.entries).toEqual([]);
    expect(log.version).toBeGreaterThan(version);
    log.arrived({ podName: "pod-1", resumed: false, pauseMs: null, cause: null }, 2000);
    expect(log.entries).toMatchObject([{ kind: "connected", words: "Connected to pod-1." }]);
  });

  it("is bounded", () => {
    for (let number = 0; number < 2 * MAX_ENTRIES; number += 1) log.noticed(`notice ${number}`, number);
    expect(log.entries).toHaveLength(MAX_ENTRIES);
    expect(log.entries[0]?.words).toBe(`notice ${2 * MAX_ENTRIES - 1}`);
  });

  it("keeps the end of a loss that others have pushed out", () => {
    log.lost("the connection broke off", 0);
    for (let number = 0; number < MAX_ENTRIES; number += 1) log.noticed("notice", number);
    log.arrived({ podName: "pod-2", resumed: true, pauseMs: 5, cause: "lost" }, 10);
    expect(log.entries[0]).toMatchObject({ kind: "recovered", pauseMs: 5 });
  });
});
