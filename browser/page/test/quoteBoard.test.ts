import type { Quote } from "session-service-client";
import { describe, expect, it } from "vitest";
import { QuoteBoard } from "../src/model/quoteBoard.ts";

function quote(symbol: string, lastPrice: number): Quote {
  return {
    symbol,
    bid: lastPrice - 0.01,
    ask: lastPrice + 0.02,
    bidSize: 100,
    askSize: 200,
    lastPrice,
    lastSize: 10,
  };
}

describe("QuoteBoard", () => {
  it("keeps the market's order and the latest price", () => {
    const board = new QuoteBoard();
    board.apply([quote("MSFT", 400), quote("AAPL", 190)], true);
    board.apply([quote("AAPL", 191)], false);
    expect(board.symbols).toEqual(["MSFT", "AAPL"]);
    expect(board.line("AAPL")).toMatchObject({ last: 191, bid: 190.99, ask: 191.02 });
  });

  it("counts the change from the first price it saw", () => {
    const board = new QuoteBoard();
    board.apply([quote("AAPL", 200)], true);
    board.apply([quote("AAPL", 210)], false);
    board.apply([quote("AAPL", 204)], true);
    expect(board.line("AAPL")).toMatchObject({ change: 4, changeShare: 0.02, direction: "down" });
  });

  it("keeps the direction while the price stands", () => {
    const board = new QuoteBoard();
    for (const price of [10, 11, 11]) board.apply([quote("AAPL", price)], false);
    expect(board.line("AAPL")?.direction).toBe("up");
  });

  it("drops with a snapshot what the snapshot does not name", () => {
    const board = new QuoteBoard();
    board.apply([quote("AAPL", 190), quote("MSFT", 400)], true);
    board.apply([quote("MSFT", 401)], true);
    expect(board.symbols).toEqual(["MSFT"]);
  });

  it("tells each changed symbol once", () => {
    const board = new QuoteBoard();
    board.apply([quote("AAPL", 190), quote("MSFT", 400)], true);
    board.apply([quote("AAPL", 191)], false);
    expect([...board.takeChanged()]).toEqual(["AAPL", "MSFT"]);
    expect(board.takeChanged().size).toBe(0);
  });

  it("begins anew with another market", () => {
    const board = new QuoteBoard();
    board.apply([quote("AAPL", 190)], true);
    board.clear();
    board.apply([quote("AAPL", 95)], true);
    expect(board.line("AAPL")).toMatchObject({ change: 0, direction: "none" });
  });
});
