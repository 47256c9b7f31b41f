import { describe, expect, it } from "vitest";
import { accountFigures } from "../src/model/profit.ts";

const PORTFOLIO = {
  cashBalance: 97_900,
  totalValue: 100_100,
  positions: [
    { symbol: "AAPL", quantity: 10, averageCost: 200, marketValue: 2200 },
    { symbol: "MSFT", quantity: 0, averageCost: 0, marketValue: 0 },
  ],
};

describe("accountFigures", () => {
  it("has the gain of each position, and leaves out those that are closed", () => {
    const { positions, openProfit } = accountFigures(PORTFOLIO, 100_000);
    expect(positions).toEqual([
      { symbol: "AAPL", quantity: 10, averageCost: 200, marketValue: 2200, profit: 200, profitShare: 0.1 },
    ]);
    expect(openProfit).toBe(200);
  });

  it("has the gain since the market began", () => {
    expect(accountFigures(PORTFOLIO, 100_000)).toMatchObject({ totalProfit: 100, totalProfitShare: 0.001 });
  });

  it("does not guess a gain while it is unknown how much there was at first", () => {
    expect(accountFigures(PORTFOLIO, null)).toMatchObject({ totalProfit: null, totalProfitShare: null });
  });

  it("counts a short position that became cheaper as a gain", () => {
    const short = { symbol: "AAPL", quantity: -10, averageCost: 200, marketValue: -1900 };
    const { positions } = accountFigures({ ...PORTFOLIO, positions: [short] }, null);
    expect(positions[0]).toMatchObject({ profit: 100, profitShare: 0.05 });
  });
});
