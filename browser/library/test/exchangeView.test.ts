import { describe, expect, it } from "vitest";
import type { OrderUpdate } from "../src/events.ts";
import { ExchangeView, MAX_DONE_ORDERS } from "../src/exchangeView.ts";
import { order } from "./support/fakeService.ts";

/** A view that took one frame for each of these updates, as they are numbered. */
function viewOf(updates: readonly OrderUpdate[]): ExchangeView {
  const view = new ExchangeView();
  const frame = { epoch: 7, timestampMs: 0, quotes: [], portfolio: null };
  view.apply({ ...frame, fromSequence: 0, sequence: 0, snapshot: true, orderUpdates: [] });
  for (const update of updates) {
    const { sequence } = update;
    view.apply({ ...frame, fromSequence: sequence, sequence, snapshot: false, orderUpdates: [update] });
  }
  return view;
}

describe("the orders of a view", () => {
  it("are every open one, and the done ones of last", () => {
    const open = [order("open-1", "NEW", 1), order("open-2", "PARTIALLY_FILLED", 2)];
    const done = Array.from({ length: MAX_DONE_ORDERS + 5 }, (_, at) => order(`done-${at}`, "FILLED", 3 + at));
    const { orders } = viewOf([...open, ...done]);
    expect(orders.size).toBe(2 + MAX_DONE_ORDERS);
    expect([...orders.keys()].slice(0, 3)).toEqual(["open-1", "open-2", "done-5"]);
  });

  it("leave by when they were done, not by when they were placed", () => {
    const rest = Array.from({ length: MAX_DONE_ORDERS - 1 }, (_, at) => order(`done-${at}`, "CANCELED", 2 + at));
    const last = 2 + rest.length;
    const updates = [order("early", "NEW", 1), ...rest, order("early", "FILLED", last)];
    expect(viewOf([...updates, order("next", "REJECTED", last + 1)]).orders.has("early")).toBe(true);
  });

  it("are those of the last snapshot", () => {
    const view = viewOf([order("before", "FILLED", 1)]);
    const orderUpdates = [order("after", "FILLED", 2)];
    const range = { epoch: 7, fromSequence: 2, sequence: 2, snapshot: true };
    view.apply({ ...range, timestampMs: 0, quotes: [], portfolio: null, orderUpdates });
    expect([...view.orders.keys()]).toEqual(["after"]);
  });
});
