import { describe, expect, it } from "vitest";
import {
  formatClock,
  formatDuration,
  formatInstant,
  formatPrice,
  formatRate,
  formatSignedPercent,
  formatSignedPrice,
  formatWhole,
} from "../src/model/numberFormat.ts";

describe("prices", () => {
  it("have two decimals and grouped thousands", () => {
    expect(formatPrice(1234567.5)).toBe("1,234,567.50");
  });

  it("have a true minus, and none where nothing is left of the amount", () => {
    expect(formatPrice(-12.345)).toBe("\u221212.35");
    expect(formatPrice(-0.001)).toBe("0.00");
  });

  it("show the sign of a gain and of a loss, but not of nothing", () => {
    expect(formatSignedPrice(10)).toBe("+10.00");
    expect(formatSignedPrice(-10)).toBe("\u221210.00");
    expect(formatSignedPrice(-0.004)).toBe("0.00");
  });

  it("are percent of one", () => {
    expect(formatSignedPercent(0.0123)).toBe("+1.23%");
    expect(formatSignedPercent(-0.5)).toBe("\u221250.00%");
    expect(formatSignedPercent(0)).toBe("0.00%");
  });
});

describe("counts", () => {
  it("are grouped", () => {
    expect(formatWhole(2_000_000)).toBe("2,000,000");
    expect(formatWhole(-3)).toBe("\u22123");
  });

  it("have a decimal only while they are small rates", () => {
    expect(formatRate(9.96)).toBe("10.0");
    expect(formatRate(199.7)).toBe("200");
  });
});

describe("times", () => {
  it.each([
    [0.42, "0.4 ms"],
    [212.4, "212 ms"],
    [999.7, "1.0 s"],
    [3400, "3.4 s"],
    [59_960, "1 min 0 s"],
    [125_000, "2 min 5 s"],
  ])("%d ms are %s", (ms, words) => {
    expect(formatDuration(ms)).toBe(words);
  });

  it("of day are local, with two digits each", () => {
    expect(formatClock(new Date(2026, 0, 2, 3, 4, 5).getTime())).toBe("03:04:05");
  });

  it("of another day have their day", () => {
    const instantMs = new Date(2026, 0, 2, 3, 4, 5).getTime();
    expect(formatInstant(instantMs, new Date(2026, 0, 2, 23, 0, 0).getTime())).toBe("03:04:05");
    expect(formatInstant(instantMs, new Date(2026, 0, 3, 1, 0, 0).getTime())).toBe("2 Jan 03:04");
  });
});
