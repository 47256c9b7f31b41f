import type { Quote } from "session-service-client";
import { describe, expect, it } from "vitest";
import { CAPACITY, PriceHistory } from "../src/model/priceHistory.ts";

function quote(lastPrice: number, symbol = "AAPL"): Quote {
  return { symbol, bid: lastPrice - 1, ask: lastPrice + 1, bidSize: 1, askSize: 1, lastPrice, lastSize: 1 };
}

describe("PriceHistory", () => {
  it("keeps the last price within each quarter of a second", () => {
    const history = new PriceHistory();
    history.add([quote(10)], 1000);
    history.add([quote(11)], 1249);
    history.add([quote(12)], 1250);
    expect(history.columns("AAPL")).toEqual({ times_s: [1, 1.25], last: [11, 12], bid: [10, 11], ask: [12, 13] });
  });

  it("draws an instant that goes backwards at the newest one", () => {
    const history = new PriceHistory();
    history.add([quote(10)], 5000);
    history.add([quote(12)], 4000);
    expect(history.columns("AAPL")).toMatchObject({ times_s: [5], last: [12] });
  });

  it("is bounded, and forgets the oldest", () => {
    const history = new PriceHistory();
    for (let step = 0; step < 3 * CAPACITY; step += 1) history.add([quote(step)], step * 250);
    const { times_s, last, bid, ask } = history.columns("AAPL");
    expect(times_s.length).toBeGreaterThanOrEqual(CAPACITY);
    expect(times_s.length).toBeLessThan(1.2 * CAPACITY);
    expect(last.at(-1)).toBe(3 * CAPACITY - 1);
    expect(new Set([times_s.length, last.length, bid.length, ask.length]).size).toBe(1);
  });

  it("keeps symbols apart, and knows nothing of others", () => {
    const history = new PriceHistory();
    history.add([quote(10), quote(20, "MSFT")], 0);
    expect(history.columns("MSFT").last).toEqual([20]);
    expect(history.columns("TSLA").last).toEqual([]);
  });

  it("forgets everything with its market", () => {
    const history = new PriceHistory();
    history.add([quote(10)], 0);
    history.clear();
    expect(history.columns("AAPL").times_s).toEqual([]);
  });
});
