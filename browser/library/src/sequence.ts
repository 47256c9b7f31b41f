/** The sequence rule of one connection (docs/exchange-data.md#numbers). Pure. */

import type { Position, SequenceViolated } from "./events.ts";

/** What the rule looks at of a frame. */
export interface Range extends Position {
  readonly fromSequence: number;
  readonly snapshot: boolean;
}

/**
 * Checks every frame of one connection, in the order in which they came.
 *
 * `beginsAfter`: the position that the service said it would continue from; null where only a snapshot may come first.
 * After a violation the stream is broken: nothing but a snapshot mends it.
 */
export class SequenceChecker {
  #epoch: number | null;
  #sequence: number;
  broken = false;

  constructor(beginsAfter: Position | null) {
    this.#epoch = beginsAfter?.epoch ?? null;
    this.#sequence = beginsAfter?.sequence ?? 0;
  }

  /** Null: the frame may be applied, unless `broken`: then it is to be passed over, its break is known. */
  check(frame: Range): SequenceViolated | null {
    const { epoch, fromSequence, sequence } = frame;
    if (frame.snapshot) {
      if (fromSequence !== sequence) return this.#violated("MALFORMED", frame);
      this.#epoch = epoch;
      this.#sequence = sequence;
      this.broken = false;
      return null;
    }
    if (this.broken) return null;
    if (epoch === this.#epoch && fromSequence === this.#sequence + 1 && sequence >= fromSequence) {
      this.#sequence = sequence;
      return null;
    }
    if (sequence < fromSequence) return this.#violated("MALFORMED", frame);
    if (epoch !== this.#epoch) return this.#violated("WRONG_EPOCH", frame);
    return this.#violated(fromSequence > this.#sequence + 1 ? "GAP" : "DUPLICATE", frame);
  }

  #violated(kind: SequenceViolated["kind"], frame: Range): SequenceViolated {
    this.broken = true;
    const { epoch, fromSequence, sequence } = frame;
    return { kind, epoch, fromSequence, sequence, expected: this.#epoch === null ? null : this.#sequence + 1 };
  }
}
