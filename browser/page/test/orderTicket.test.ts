import { describe, expect, it } from "vitest";
import { formatPrice } from "../src/model/numberFormat.ts";
import {
  describeTicket,
  estimateValue,
  judgeTicket,
  MAX_PRICE,
  MAX_QUANTITY,
  type TicketDraft,
} from "../src/model/orderTicket.ts";

const SYMBOLS = ["AAPL", "MSFT"];
const MARKET: TicketDraft = { symbol: "AAPL", side: "BUY", orderType: "MARKET", quantity: "10", price: "" };
const LIMIT: TicketDraft = { ...MARKET, orderType: "LIMIT", price: "189.50" };

function wordsAbout(field: string, draft: TicketDraft): string | undefined {
  const verdict = judgeTicket(draft, SYMBOLS);
  return verdict.ok ? undefined : verdict.problems.find((problem) => problem.field === field)?.words;
}

describe("judgeTicket", () => {
  it("lets a market order through without a price, whatever its field holds", () => {
    expect(judgeTicket({ ...MARKET, price: "nonsense" }, SYMBOLS)).toEqual({
      ok: true,
      ticket: { symbol: "AAPL", side: "BUY", orderType: "MARKET", quantity: 10, price: null },
    });
  });

  it("lets a limit order through with its price", () => {
    expect(judgeTicket({ ...LIMIT, side: "SELL", quantity: " 1,000 " }, SYMBOLS)).toEqual({
      ok: true,
      ticket: { symbol: "AAPL", side: "SELL", orderType: "LIMIT", quantity: 1000, price: 189.5 },
    });
  });

  it.each(["", "  ", "0", "-1", "1.5", "1e3", "ten", "0x10", "Infinity", String(MAX_QUANTITY + 1)])(
    "refuses the quantity %j",
    (quantity) => {
      expect(wordsAbout("quantity", { ...MARKET, quantity })).toMatch(/^Enter /);
    },
  );

  it.each(["1", "10.0", String(MAX_QUANTITY)])("takes the quantity %j", (quantity) => {
    expect(wordsAbout("quantity", { ...MARKET, quantity })).toBeUndefined();
  });

  it.each(["", "0", "-5", "189.505", "abc", "1e2", String(MAX_PRICE + 1)])("refuses the price %j", (price) => {
    expect(wordsAbout("price", { ...LIMIT, price })).toMatch(/^Enter /);
  });

  it.each(["0.01", "189.5", ".50", "1,250.00", "189.5000", String(MAX_PRICE)])("takes the price %j", (price) => {
    expect(wordsAbout("price", { ...LIMIT, price })).toBeUndefined();
  });

  it("says that the market is closed where nothing can be traded", () => {
    const verdict = judgeTicket(MARKET, []);
    expect(verdict).toMatchObject({
      ok: false,
      problems: [{ field: "symbol", words: expect.stringMatching("not open") }],
    });
  });

  it("tells all problems at once, in the order of the fields", () => {
    const verdict = judgeTicket({ ...LIMIT, symbol: "TSLA", quantity: "", price: "" }, SYMBOLS);
    expect(verdict.ok ? [] : verdict.problems.map(({ field }) => field)).toEqual(["symbol", "quantity", "price"]);
  });
});

describe("estimateValue", () => {
  const quote = { bid: 189, ask: 190 };

  it("buys at the ask and sells at the bid", () => {
    expect(estimateValue(MARKET, quote)).toBe(1900);
    expect(estimateValue({ ...MARKET, side: "SELL" }, quote)).toBe(1890);
  });

  it("takes the limit of a limit order", () => {
    expect(estimateValue({ ...LIMIT, price: "100" }, quote)).toBe(1000);
  });

  it("says nothing while a field is wrong or there is no quote", () => {
    expect(estimateValue({ ...MARKET, quantity: "x" }, quote)).toBeNull();
    expect(estimateValue({ ...LIMIT, price: "" }, quote)).toBeNull();
    expect(estimateValue(MARKET, undefined)).toBeNull();
  });
});

it("an order is described as one would say it", () => {
  const ticket = { symbol: "AAPL", side: "SELL", orderType: "LIMIT", quantity: 5, price: 1189.5 } as const;
  expect(describeTicket(ticket, formatPrice)).toBe("Sell 5 AAPL at 1,189.50 or better");
  expect(describeTicket({ ...ticket, side: "BUY", orderType: "MARKET", price: null }, formatPrice)).toBe(
    "Buy 5 AAPL at market",
  );
});
