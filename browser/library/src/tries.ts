/** When and where the next try is made. Pure: times and random numbers are given. */

import { DecorrelatedJitter } from "./backoff.ts";
import type { Retry } from "./closeCodes.ts";
import type { Endpoints } from "./endpoints.ts";

/** The first reconnect comes within it. */
const FIRST_PAUSE_MS = 250;
const BASE_PAUSE_MS = 500;

export class Tries {
  readonly #endpoints: Endpoints;
  readonly #random: () => number;
  readonly #pauses: DecorrelatedJitter;

  constructor(endpoints: Endpoints, random: () => number, maxPauseMs: number) {
    this.#endpoints = endpoints;
    this.#random = random;
    this.#pauses = new DecorrelatedJitter(random, {
      firstMs: FIRST_PAUSE_MS,
      baseMs: BASE_PAUSE_MS,
      capMs: maxPauseMs,
      short: endpoints.size,
    });
  }

  /** The address of the next one, and how long that one wants to be left alone. */
  next(nowMs: number): { readonly url: string; readonly waitMs: number } {
    return this.#endpoints.choose(nowMs);
  }

  /** One at `url` failed, or its connection was lost: how long to wait. */
  failed(url: string, { afterMs }: Retry, nowMs: number): number {
    // `Retry-After`, and up to as long again: those who were told the same do not come back together.
    this.#endpoints.leave(url, afterMs === null ? 0 : nowMs + afterMs * (1 + this.#random()));
    return Math.max(this.pauseMs(), this.#endpoints.choose(nowMs).waitMs);
  }

  /** It goes: others come first from now on. */
  leave(url: string): void {
    this.#endpoints.leave(url);
  }

  pauseMs(): number {
    return this.#pauses.nextMs();
  }

  /** Something outside says that waiting is no use any more: how long all the same. */
  soonMs(nowMs: number): number {
    return Math.max(this.#endpoints.choose(nowMs).waitMs, this.#random() * FIRST_PAUSE_MS);
  }

  /** There was a connection that lasted: the next loss begins with a short pause again. */
  succeeded(): void {
    this.#pauses.reset();
  }
}
