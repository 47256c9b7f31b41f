import type { KeptValues } from "./keptValues.ts";
import type { TicketMemory } from "./model/orderList.ts";
import type { OrderTicket } from "./model/orderTicket.ts";

export const TICKETS_KEY = "session-service.tickets";
/** Tickets beyond so many are forgotten, oldest first. */
const MAX_TICKETS = 500;

/** Tickets of placed orders, kept over loads of the page and shared by its tabs: updates do not repeat them. */
export class KeptTickets implements TicketMemory {
  readonly #storage: KeptValues;
  #tickets: Map<string, OrderTicket>;

  constructor(storage: KeptValues) {
    this.#storage = storage;
    this.#tickets = read(storage);
  }

  keep(orderId: string, ticket: OrderTicket): void {
    this.#tickets = read(this.#storage);
    this.#tickets.set(orderId, ticket);
    const kept = [...this.#tickets].slice(-MAX_TICKETS);
    this.#storage.setItem(TICKETS_KEY, JSON.stringify(kept));
  }

  find(orderId: string): OrderTicket | null {
    return this.#tickets.get(orderId) ?? null;
  }

  /** What other tabs have kept meanwhile. */
  reload(): void {
    this.#tickets = read(this.#storage);
  }
}

function read(storage: KeptValues): Map<string, OrderTicket> {
  try {
    return new Map(JSON.parse(storage.getItem(TICKETS_KEY) ?? "[]") as [string, OrderTicket][]);
  } catch {
    return new Map();
  }
}
