import type { OrderUpdate } from "session-service-client";
import type { OrderTicket } from "./orderTicket.ts";

/** Closed orders beyond so many are forgotten, oldest first; the exchange remembers as many. */
export const MAX_DONE = 1000;

const OPEN_STATUSES: ReadonlySet<string> = new Set(["NEW", "PARTIALLY_FILLED"]);

/**
 * One order as the page knows it.
 *
 * Updates do not repeat what was ordered, so `ticket` is there only for orders whose ticket was noted. `changedMs` is
 * the market's instant of the last change, null for what came in a snapshot.
 */
export interface OrderLine {
  readonly orderId: string;
  readonly symbol: string;
  readonly status: string;
  readonly filledQuantity: number;
  readonly averagePrice: number;
  readonly reason: string | null;
  readonly ticket: OrderTicket | null;
  readonly changedMs: number | null;
}

/** All orders of the session, with the last state of each. `version` grows with every change. */
export class OrderList {
  #lines = new Map<string, OrderLine>();
  #tickets: TicketMemory;
  #version = 0;

  constructor(tickets: TicketMemory) {
    this.#tickets = tickets;
  }

  get version(): number {
    return this.#version;
  }

  /** Takes order updates in their order. A snapshot replaces everything before it. */
  apply(updates: readonly OrderUpdate[], snapshot: boolean, timestampMs: number): void {
    if (updates.length === 0 && !snapshot) return;
    const before = this.#lines;
    if (snapshot) this.#lines = new Map();
    for (const update of updates) {
      const earlier = before.get(update.orderId);
      const unchanged = earlier?.status === update.status && earlier.filledQuantity === update.filledQuantity;
      // Moves to the end: the newest change is last.
      if (!snapshot) this.#lines.delete(update.orderId);
      this.#lines.set(update.orderId, {
        orderId: update.orderId,
        symbol: update.symbol,
        status: update.status,
        filledQuantity: update.filledQuantity,
        averagePrice: update.averagePrice,
        reason: update.reason ?? null,
        ticket: this.#tickets.find(update.orderId),
        changedMs: unchanged ? earlier.changedMs : snapshot ? null : timestampMs,
      });
    }
    this.#forgetOldest();
    this.#version += 1;
  }

  /** What the order with this id was; its answer may come before or after its first update. */
  note(orderId: string, ticket: OrderTicket): void {
    this.#tickets.keep(orderId, ticket);
    const line = this.#lines.get(orderId);
    if (line) this.#lines.set(orderId, { ...line, ticket });
    this.#version += 1;
  }

  /** Looks once more for tickets that were not known: another tab may have kept them meanwhile. */
  recall(): void {
    for (const [orderId, line] of this.#lines) {
      const ticket = line.ticket ?? this.#tickets.find(orderId);
      if (ticket !== line.ticket) this.#lines.set(orderId, { ...line, ticket });
    }
    this.#version += 1;
  }

  /** Newest change first. */
  open(): OrderLine[] {
    return [...this.#lines.values()].filter((line) => OPEN_STATUSES.has(line.status)).reverse();
  }

  /** Newest change first. */
  done(): OrderLine[] {
    return [...this.#lines.values()].filter((line) => !OPEN_STATUSES.has(line.status)).reverse();
  }

  clear(): void {
    this.#lines = new Map();
    this.#version += 1;
  }

  #forgetOldest(): void {
    if (this.#lines.size <= MAX_DONE) return;
    let surplus = -MAX_DONE;
    for (const line of this.#lines.values()) if (!OPEN_STATUSES.has(line.status)) surplus += 1;
    for (const line of this.#lines.values()) {
      if (surplus <= 0) return;
      if (OPEN_STATUSES.has(line.status)) continue;
      this.#lines.delete(line.orderId);
      surplus -= 1;
    }
  }
}

/** Where the tickets of placed orders are kept. */
export interface TicketMemory {
  keep(orderId: string, ticket: OrderTicket): void;
  find(orderId: string): OrderTicket | null;
}

/** An order's status for people. */
export function statusWords(line: OrderLine): string {
  switch (line.status) {
    case "NEW":
      return "Open";
    case "PARTIALLY_FILLED":
      return "Partly filled";
    case "FILLED":
      return "Filled";
    case "CANCELED":
      return line.filledQuantity > 0 ? "Canceled, partly filled" : "Canceled";
    case "REJECTED":
      return "Rejected";
    default:
      return line.status;
  }
}
