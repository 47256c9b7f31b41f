import type { Quote } from "session-service-client";

/** Prices are kept at this resolution: the last one within each step. */
const STEP_MS = 250;
/** Five minutes of steps. */
export const CAPACITY = 1200;
/** Old points go in blocks of so many, so that not every new one moves all the others. */
const SLACK = 120;

/** Columns as the chart wants them: seconds, then prices at those instants. Never to be written to. */
export interface PriceColumns {
  readonly times_s: number[];
  readonly last: number[];
  readonly bid: number[];
  readonly ask: number[];
}

/**
 * What the chart draws: a bounded history of each symbol's prices, on the market's own clock.
 *
 * On the market's clock a lost connection leaves no hole: what was missed comes with the instants at which it happened.
 */
export class PriceHistory {
  #columns = new Map<string, PriceColumns>();

  /** Adds quotes of the instant `timestampMs`. Instants that go backwards are drawn at the newest one. */
  add(quotes: readonly Quote[], timestampMs: number): void {
    const step_s = (Math.floor(timestampMs / STEP_MS) * STEP_MS) / 1000;
    for (const quote of quotes) {
      const columns = this.#columns.get(quote.symbol) ?? emptyColumns();
      this.#columns.set(quote.symbol, columns);
      addTo(columns, quote, step_s);
    }
  }

  columns(symbol: string): PriceColumns {
    return this.#columns.get(symbol) ?? emptyColumns();
  }

  clear(): void {
    this.#columns.clear();
  }
}

function addTo(columns: PriceColumns, quote: Quote, step_s: number): void {
  const { times_s, last, bid, ask } = columns;
  const newest = times_s.length - 1;
  const newest_s = times_s[newest];
  if (newest_s !== undefined && newest_s >= step_s) {
    last[newest] = quote.lastPrice;
    bid[newest] = quote.bid;
    ask[newest] = quote.ask;
    return;
  }
  times_s.push(step_s);
  last.push(quote.lastPrice);
  bid.push(quote.bid);
  ask.push(quote.ask);
  if (times_s.length >= CAPACITY + SLACK) {
    for (const column of [times_s, last, bid, ask]) column.splice(0, column.length - CAPACITY);
  }
}

function emptyColumns(): PriceColumns {
  return { times_s: [], last: [], bid: [], ask: [] };
}
