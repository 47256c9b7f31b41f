import { describe, expect, it } from "vitest";
import { UpdateRate } from "../src/model/updateRate.ts";

describe("UpdateRate", () => {
  it("is nothing before the first update", () => {
    expect(new UpdateRate().perSecond(123_456)).toBe(0);
  });

  it("is steady while updates are", () => {
    const rate = new UpdateRate();
    for (let ms = 50_000; ms < 60_000; ms += 5) rate.note(1, ms);
    expect(rate.perSecond(60_000)).toBeGreaterThan(190);
    expect(rate.perSecond(60_000)).toBeLessThan(210);
  });

  it("counts merged updates as many", () => {
    const rate = new UpdateRate();
    rate.note(500, 10_000);
    expect(rate.perSecond(11_000)).toBe(500);
  });

  it("falls to nothing when nothing comes any more", () => {
    const rate = new UpdateRate();
    rate.note(100, 10_000);
    expect(rate.perSecond(13_200)).toBe(0);
    rate.note(1, 1_000_000);
    expect(rate.perSecond(1_000_500)).toBeLessThan(1);
  });
});
