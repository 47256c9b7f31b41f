import { expect, it } from "vitest";
import { orderOutcome } from "../src/model/orderOutcome.ts";

it.each([
  ["FILLED", 10, null, "filled, 10 at 189.50."],
  ["PARTIALLY_FILLED", 4, null, "partly filled, 4 at 189.50; the rest waits."],
  ["CANCELED", 4, "not enough depth", "filled as far as there was depth, 4 at 189.50."],
  ["CANCELED", 0, null, "canceled, nobody traded."],
  ["NEW", 0, null, "accepted, it waits at the exchange."],
  ["REJECTED", 0, "market halted", "rejected. Market halted."],
])("%s with %d filled: %s, %s", (status, filledQuantity, reason, words) => {
  expect(orderOutcome({ orderId: "a", status, filledQuantity, averagePrice: 189.5, symbol: "AAPL", reason })).toBe(
    words,
  );
});
