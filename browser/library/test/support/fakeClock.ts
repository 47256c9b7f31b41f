/** Time that stands until it is moved, and what is due at each instant. */

import type { Clock } from "../../src/platform.ts";

interface Timer {
  readonly atMs: number;
  readonly callback: () => void;
}

/** More than any test needs: a timer that is due again and again at one instant is a fault. */
const MAX_HAPPENED = 20_000;
export const START_UNIX_MS = 1_795_168_800_000;

export class FakeClock implements Clock {
  #nowMs = 1_000;
  #sleptMs = 0;
  readonly #timers = new Set<Timer>();

  nowMs(): number {
    return this.#nowMs;
  }

  unixMs(): number {
    return START_UNIX_MS + this.#nowMs + this.#sleptMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + Math.max(0, delayMs), callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Everything that is due meanwhile happens at its instant, with the promises that it settles. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    let happened = 0;
    for (;;) {
      const next = [...this.#timers].sort((one, other) => one.atMs - other.atMs)[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#timers.delete(next);
      happened += 1;
      if (happened > MAX_HAPPENED) throw new Error(`timers that never come to rest at ${this.#nowMs} ms`);
      next.callback();
      await settle();
    }
    this.#nowMs = untilMs;
  }

  /** The page's timers stand still, as those of a frozen page; time goes on. */
  freeze(ms: number): void {
    this.#nowMs += ms;
  }

  /** The machine sleeps, and its monotonic clock with it: only the time of day goes on. */
  sleep(ms: number): void {
    this.#sleptMs += ms;
  }
}

/** Let the promises go as far as they can without the clock. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}
