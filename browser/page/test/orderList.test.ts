import type { OrderUpdate } from "session-service-client";
import { beforeEach, describe, expect, it } from "vitest";
import { MAX_DONE, OrderList, statusWords, type TicketMemory } from "../src/model/orderList.ts";
import type { OrderTicket } from "../src/model/orderTicket.ts";

const TICKET: OrderTicket = { symbol: "AAPL", side: "BUY", orderType: "LIMIT", quantity: 10, price: 180 };

class Tickets implements TicketMemory {
  readonly kept = new Map<string, OrderTicket>();

  keep(orderId: string, ticket: OrderTicket): void {
    this.kept.set(orderId, ticket);
  }

  find(orderId: string): OrderTicket | null {
    return this.kept.get(orderId) ?? null;
  }
}

function update(orderId: string, status: string, filledQuantity = 0): OrderUpdate {
  return { orderId, symbol: "AAPL", status, filledQuantity, averagePrice: 180, sequence: 1 };
}

let tickets: Tickets;
let orders: OrderList;

beforeEach(() => {
  tickets = new Tickets();
  orders = new OrderList(tickets);
});

function ids(lines: readonly { orderId: string }[]): string[] {
  return lines.map(({ orderId }) => orderId);
}

describe("OrderList", () => {
  it("parts open from done, newest change first", () => {
    orders.apply([update("a", "NEW"), update("b", "NEW"), update("c", "FILLED", 10)], false, 1);
    orders.apply([update("a", "PARTIALLY_FILLED", 4), update("d", "REJECTED")], false, 2);
    expect(ids(orders.open())).toEqual(["a", "b"]);
    expect(ids(orders.done())).toEqual(["d", "c"]);
  });

  it("keeps the instant of the last change, also over a snapshot that changes nothing", () => {
    orders.apply([update("a", "NEW")], false, 1000);
    orders.apply([update("a", "NEW"), update("b", "FILLED", 1)], true, 5000);
    expect(orders.open()[0]?.changedMs).toBe(1000);
    expect(orders.done()[0]?.changedMs).toBeNull();
  });

  it("replaces everything with a snapshot", () => {
    orders.apply([update("a", "NEW"), update("b", "FILLED", 1)], false, 1);
    orders.apply([update("c", "NEW")], true, 2);
    expect(ids(orders.open())).toEqual(["c"]);
    expect(orders.done()).toEqual([]);
  });

  it("knows an order's ticket, whichever of answer and update came first", () => {
    orders.note("a", TICKET);
    orders.apply([update("a", "NEW"), update("b", "NEW")], false, 1);
    orders.note("b", TICKET);
    expect(orders.open().map(({ ticket }) => ticket)).toEqual([TICKET, TICKET]);
  });

  it("recalls tickets that another tab has kept meanwhile", () => {
    orders.apply([update("a", "NEW")], false, 1);
    tickets.keep("a", TICKET);
    orders.recall();
    expect(orders.open()[0]?.ticket).toBe(TICKET);
  });

  it("forgets the oldest done orders, and never an open one", () => {
    orders.apply([update("open", "NEW")], false, 1);
    for (let number = 0; number < MAX_DONE + 50; number += 1)
      orders.apply([update(`${number}`, "FILLED", 1)], false, 2);
    expect(ids(orders.open())).toEqual(["open"]);
    expect(orders.done().length).toBeLessThanOrEqual(MAX_DONE);
    expect(orders.done()[0]?.orderId).toBe(`${MAX_DONE + 49}`);
  });

  it("forgets no done order because of open ones", () => {
    for (let number = 0; number < MAX_DONE; number += 1) orders.apply([update(`open-${number}`, "NEW")], false, 1);
    orders.apply([update("done", "FILLED", 1)], false, 2);
    expect(ids(orders.done())).toEqual(["done"]);
    expect(orders.open()).toHaveLength(MAX_DONE);
  });

  it("forgets none of an order that was open when others were done", () => {
    orders.apply([update("late", "NEW")], false, 1);
    for (let number = 0; number < MAX_DONE; number += 1) orders.apply([update(`${number}`, "FILLED", 1)], false, 2);
    orders.apply([update("late", "FILLED", 1)], false, 3);
    expect(orders.done()).toHaveLength(MAX_DONE);
    expect(orders.done()[0]?.orderId).toBe("late");
  });

  it("grows its version with each change, and with nothing else", () => {
    const before = orders.version;
    orders.apply([], false, 1);
    expect(orders.version).toBe(before);
    orders.apply([update("a", "NEW")], false, 1);
    expect(orders.version).toBeGreaterThan(before);
  });
});

it.each([
  ["NEW", 0, "Open"],
  ["PARTIALLY_FILLED", 3, "Partly filled"],
  ["FILLED", 10, "Filled"],
  ["CANCELED", 0, "Canceled"],
  ["CANCELED", 3, "Canceled, partly filled"],
  ["REJECTED", 0, "Rejected"],
  ["SOMETHING_NEW", 0, "SOMETHING_NEW"],
])("%s with %d filled is %j", (status, filled, words) => {
  orders.apply([update("a", status, filled)], false, 1);
  const line = [...orders.open(), ...orders.done()][0];
  expect(line && statusWords(line)).toBe(words);
});
