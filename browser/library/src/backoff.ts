/** How long to wait before the next connection. Pure: the random numbers are given. */

export interface JitterOptions {
  readonly firstMs: number;
  readonly baseMs: number;
  readonly capMs: number;
  readonly short?: number;
}

/**
 * Decorrelated jitter: each wait is drawn between `baseMs` and three times the one before, at most `capMs`.
 *
 * The first `short` waits after `reset` are between 0 and `firstMs`: most losses are of one connection or one pod, and a
 * short spread is enough to keep those who lost it together from coming back in the same instant. With `short` the number
 * of places that can be tried, none waits for the failures of another. `random` gives numbers in [0, 1).
 */
export class DecorrelatedJitter {
  readonly #random: () => number;
  readonly #firstMs: number;
  readonly #baseMs: number;
  readonly #capMs: number;
  readonly #short: number;
  #lastMs: number;
  #shortLeft: number;

  constructor(random: () => number, { firstMs, baseMs, capMs, short = 1 }: JitterOptions) {
    this.#random = random;
    this.#firstMs = firstMs;
    this.#baseMs = baseMs;
    this.#capMs = capMs;
    this.#short = short;
    this.#lastMs = baseMs;
    this.#shortLeft = short;
  }

  reset(): void {
    this.#lastMs = this.#baseMs;
    this.#shortLeft = this.#short;
  }

  nextMs(): number {
    if (this.#shortLeft > 0) {
      this.#shortLeft -= 1;
      return this.#random() * Math.min(this.#firstMs, this.#capMs);
    }
    const upperMs = Math.max(this.#baseMs, this.#lastMs * 3);
    this.#lastMs = Math.min(this.#capMs, this.#baseMs + this.#random() * (upperMs - this.#baseMs));
    return this.#lastMs;
  }
}
