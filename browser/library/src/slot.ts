/** Moving to another connection while the old one is there (docs/protocol.md, "Moving during a deploy"). Pure. */

import type { ReconnectCause, TransportKind } from "./events.ts";

/**
 * - `open`: the new connection; the old one is read on;
 * - `switch`: leave the old connection: the new one delivers;
 * - `give-up`: leave the old connection, though there is no new one.
 */
export type Step = "wait" | "open" | "switch" | "give-up";

export interface SlotOptions {
  readonly cause: ReconnectCause;
  readonly opensAtMs: number;
  /** Infinity: the old connection stays however long it takes. */
  readonly deadlineMs: number;
  /** What to move to; null: whatever is chosen then. */
  readonly transport?: TransportKind | null;
  /** Begin with a snapshot, whatever the position. */
  readonly fresh?: boolean;
}

/** Instants are of the caller's monotonic clock. */
export class Slot {
  readonly cause: ReconnectCause;
  readonly deadlineMs: number;
  readonly transport: TransportKind | null;
  readonly fresh: boolean;
  opensAtMs: number;

  constructor({ cause, opensAtMs, deadlineMs, transport = null, fresh = false }: SlotOptions) {
    this.cause = cause;
    this.deadlineMs = deadlineMs;
    this.transport = transport;
    this.fresh = fresh;
    this.opensAtMs = Math.min(opensAtMs, deadlineMs);
  }

  /** The new connection could not be opened: try again at that instant, as long as there is time. */
  postpone(untilMs: number): void {
    this.opensAtMs = untilMs;
  }

  /** `opened`: the new one is connected; `delivers`: it had its first data, or will have none. */
  step(nowMs: number, { opened, delivers }: { opened: boolean; delivers: boolean }): Step {
    if (opened) return delivers || nowMs >= this.deadlineMs ? "switch" : "wait";
    if (nowMs >= this.deadlineMs) return "give-up";
    return nowMs >= this.opensAtMs ? "open" : "wait";
  }

  /** When `step` has something new to say, unless a frame comes before. */
  nextMs(opened: boolean): number {
    return opened ? this.deadlineMs : Math.min(this.opensAtMs, this.deadlineMs);
  }
}
