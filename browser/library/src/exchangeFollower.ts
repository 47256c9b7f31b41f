/** What becomes of exchange data: checked, applied to the view, counted and told. */

import type { ExchangeData } from "./events.ts";
import type { ExchangeView } from "./exchangeView.ts";
import type { SequenceChecker } from "./sequence.ts";
import type { Counters } from "./statistics.ts";
import type { Teller } from "./teller.ts";

export class ExchangeFollower {
  readonly #view: ExchangeView;
  readonly #counters: Counters;
  readonly #teller: Teller;
  #lastDataMs: number | null = null;
  /** The connection is a new one: its first data ends a pause. */
  #endsPause = false;

  constructor(view: ExchangeView, counters: Counters, teller: Teller) {
    this.#view = view;
    this.#counters = counters;
    this.#teller = teller;
  }

  /** Whether the frame kept the rule of its connection; that it did not is told, once. */
  mayApply(checker: SequenceChecker, data: ExchangeData): boolean {
    const violation = checker.check(data);
    if (violation?.kind === "DUPLICATE") {
      this.#counters.duplicates += 1;
      this.#teller.tell("onDuplicate", violation);
    } else if (violation !== null) {
      this.#counters.gaps += 1;
      this.#teller.tell("onGap", violation);
    }
    return !checker.broken;
  }

  /** Whether there was something new in it. */
  apply(data: ExchangeData, nowMs: number): boolean {
    const counters = this.#counters;
    counters.frames += 1;
    this.#endPause(nowMs);
    const before = this.#view.position;
    const applied = this.#view.apply(data);
    if (applied === null) {
      counters.overlapped += 1;
      return false;
    }
    if (applied.snapshot) {
      counters.snapshots += 1;
      const skips = before !== null && before.epoch === applied.epoch && before.sequence < applied.sequence;
      if (skips) counters.snapshotsSkipping += 1;
    } else {
      counters.updates += applied.sequence - applied.fromSequence + 1;
      counters.orderUpdates += applied.orderUpdates.length;
    }
    this.#teller.tell("onExchangeData", applied);
    return true;
  }

  /** A connection took the place of another, after a pause without any. */
  connectionIsNew(pauseMs: number): void {
    this.#endsPause = true;
    if (this.#lastDataMs === null) this.#paused(pauseMs);
  }

  /** No simulator runs: silence is no pause of ours then. */
  expectsNothing(): void {
    this.#lastDataMs = null;
  }

  #endPause(nowMs: number): void {
    if (this.#endsPause && this.#lastDataMs !== null) this.#paused(nowMs - this.#lastDataMs);
    this.#endsPause = false;
    this.#lastDataMs = nowMs;
  }

  #paused(pauseMs: number): void {
    this.#counters.longestPauseMs = Math.max(this.#counters.longestPauseMs, pauseMs);
  }
}
