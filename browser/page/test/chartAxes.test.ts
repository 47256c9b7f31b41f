import { describe, expect, it } from "vitest";
import { axisLabels, PRICE_STEPS } from "../src/model/chartAxes.ts";
import { formatPrice } from "../src/model/numberFormat.ts";

describe("PRICE_STEPS", () => {
  it("are whole cents, so that every label is the price of its line", () => {
    for (const step of PRICE_STEPS) expect(Number(formatPrice(step).replaceAll(",", ""))).toBeCloseTo(step, 9);
  });

  it("grow", () => {
    expect([...PRICE_STEPS].sort((one, other) => one - other)).toEqual(PRICE_STEPS);
  });
});

describe("axisLabels", () => {
  it("writes every value", () => {
    expect(axisLabels([1, 2.5], false, formatPrice)).toEqual(["1.00", "2.50"]);
  });

  it("makes up no figures where there is nothing to see", () => {
    expect(axisLabels([0, 1], true, formatPrice)).toEqual(["", ""]);
  });
});
