import { describe, expect, it } from "vitest";
import { OUT_OF_SIGHT, simulatorProgress } from "../src/model/simulatorProgress.ts";

function progress(status: string, reason: string | null = null, queuePosition: number | null = null) {
  return simulatorProgress({ status, reason, queuePosition });
}

describe("simulatorProgress", () => {
  it.each(["NONE", "STOPPED", "ERROR"])("%s can be started and not stopped", (status) => {
    expect(progress(status)).toMatchObject({ canStart: true, canStop: false });
  });

  it.each(["CREATING", "STARTING", "RUNNING"])("%s can be stopped and not started", (status) => {
    expect(progress(status)).toMatchObject({ canStart: false, canStop: true });
  });

  it("STOPPING can be neither", () => {
    expect(progress("STOPPING")).toMatchObject({ canStart: false, canStop: false });
  });

  it("is neither open nor to be opened where there is no connection to it any more", () => {
    const { label, canStart, canStop } = simulatorProgress(OUT_OF_SIGHT);
    expect({ label, canStart, canStop }).toEqual({ label: "Not connected", canStart: false, canStop: false });
  });

  it("goes forward on its way to RUNNING", () => {
    const steps = [progress("NONE"), progress("STARTING", null, 3), progress("STARTING"), progress("RUNNING")];
    expect(steps.map(({ step }) => step)).toEqual([0, 1, 3, 4]);
  });

  it("tells the place in the queue", () => {
    expect(progress("STARTING", null, 1).words).toBe("Your market is the next to be created.");
    expect(progress("STARTING", null, 4)).toMatchObject({
      label: "Waiting, place 4",
      words: expect.stringContaining("3 other markets"),
    });
  });

  it("tells what the platform waits for", () => {
    expect(progress("STARTING", "Unschedulable").words).toContain("Unschedulable");
  });

  it("tells why a market failed, and what to do", () => {
    expect(progress("ERROR", "state_lost").words).toMatch(/lost its state.*Start a new one/);
    expect(progress("ERROR", "SIGKILL").words).toContain("SIGKILL");
    expect(progress("ERROR").words).toMatch(/failed.*Start a new one/);
  });
});
