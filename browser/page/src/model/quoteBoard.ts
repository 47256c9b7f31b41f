import type { Quote } from "session-service-client";

export type Direction = "up" | "down" | "none";

/** One line of the board. `change` is since the first price that this page saw of this market. */
export interface QuoteLine {
  readonly symbol: string;
  readonly bid: number;
  readonly ask: number;
  readonly last: number;
  readonly change: number;
  readonly changeShare: number;
  /** Where the last price went with its last change. */
  readonly direction: Direction;
}

/**
 * The latest quote of every symbol, in the order in which the market named them first.
 *
 * It remembers which lines changed since they were last drawn, so that whatever came between two frames of the display
 * is drawn once.
 */
export class QuoteBoard {
  #lines = new Map<string, QuoteLine>();
  #openings = new Map<string, number>();
  #changed = new Set<string>();

  get symbols(): readonly string[] {
    return [...this.#lines.keys()];
  }

  line(symbol: string): QuoteLine | undefined {
    return this.#lines.get(symbol);
  }

  /** Takes the quotes of one frame. A snapshot replaces everything: symbols it does not name are gone. */
  apply(quotes: readonly Quote[], snapshot: boolean): void {
    const before = this.#lines;
    if (snapshot) this.#lines = new Map();
    for (const quote of quotes) {
      const opening = this.#openings.get(quote.symbol) ?? quote.lastPrice;
      this.#openings.set(quote.symbol, opening);
      const earlier = before.get(quote.symbol);
      const change = quote.lastPrice - opening;
      this.#lines.set(quote.symbol, {
        symbol: quote.symbol,
        bid: quote.bid,
        ask: quote.ask,
        last: quote.lastPrice,
        change,
        changeShare: opening === 0 ? 0 : change / opening,
        direction: earlier ? directionOf(earlier, quote.lastPrice) : "none",
      });
      this.#changed.add(quote.symbol);
    }
  }

  /** A new market: other prices, nothing to compare them with. */
  clear(): void {
    this.#lines = new Map();
    this.#openings.clear();
    this.#changed.clear();
  }

  /** The symbols whose lines changed since the last call. */
  takeChanged(): ReadonlySet<string> {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }
}

function directionOf(earlier: QuoteLine, last: number): Direction {
  if (last > earlier.last) return "up";
  if (last < earlier.last) return "down";
  return earlier.direction;
}
