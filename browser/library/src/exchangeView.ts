/** What a client knows of its simulator, over all its sockets. Pure. */

import type { ExchangeData, OrderUpdate, Portfolio, Position, Quote } from "./events.ts";

/** Done orders beyond so many leave the view, the one that was done first first. Open ones all stay. */
export const MAX_DONE_ORDERS = 1_000;

const OPEN_STATUSES: ReadonlySet<string> = new Set(["NEW", "PARTIALLY_FILLED"]);

/** The position, and the latest of everything up to it. */
export interface View {
  readonly position: Position | null;
  /** By symbol. */
  readonly quotes: ReadonlyMap<string, Quote>;
  /**
   * By order id: the last update of each order that the last snapshot held or that came since; of those that are neither
   * `NEW` nor `PARTIALLY_FILLED` the latest 1,000, as the exchange remembers them.
   */
  readonly orders: ReadonlyMap<string, OrderUpdate>;
  readonly portfolio: Portfolio | null;
}

export class ExchangeView implements View {
  position: Position | null = null;
  readonly quotes = new Map<string, Quote>();
  readonly orders = new Map<string, OrderUpdate>();
  portfolio: Portfolio | null = null;
  /** Ids in the order in which they were done. */
  readonly #done = new Set<string>();

  /**
   * Take a frame that kept its own socket's rule; what of it was new, or null.
   *
   * Only over two sockets can something be known already: the new one begins where the old one was when it was opened,
   * and the old one went on meanwhile. Then an order update counts if its number is above the position.
   */
  apply(frame: ExchangeData): ExchangeData | null {
    const position = this.position;
    let data = frame;
    if (position !== null && position.epoch === data.epoch) {
      if (data.sequence < position.sequence) return null;
      if (!data.snapshot && data.fromSequence <= position.sequence) {
        if (data.sequence === position.sequence) return null;
        data = {
          ...data,
          fromSequence: position.sequence + 1,
          orderUpdates: data.orderUpdates.filter((one) => one.sequence > position.sequence),
        };
      }
    }
    if (data.snapshot) {
      this.quotes.clear();
      this.orders.clear();
      this.#done.clear();
      this.portfolio = null;
    }
    for (const quote of data.quotes) this.quotes.set(quote.symbol, quote);
    for (const update of data.orderUpdates) this.#take(update);
    if (data.portfolio !== null) this.portfolio = data.portfolio;
    this.position = { epoch: data.epoch, sequence: data.sequence };
    return data;
  }

  #take(update: OrderUpdate): void {
    const { orderId } = update;
    this.orders.set(orderId, update);
    this.#done.delete(orderId);
    if (OPEN_STATUSES.has(update.status)) return;
    this.#done.add(orderId);
    for (const oldest of this.#done) {
      if (this.#done.size <= MAX_DONE_ORDERS) return;
      this.#done.delete(oldest);
      this.orders.delete(oldest);
    }
  }
}
