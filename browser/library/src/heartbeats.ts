/** Heartbeats of one socket: when the next is due, what the last ones say. Pure: times are given. */

export const MISSED_UNTIL_LOST = 3;

/** `roundTripMs`: the last one, null before the first; `missed`: heartbeats in a row without answer. */
export class Heartbeats {
  readonly #intervalMs: number;
  /** Timestamp of an unanswered heartbeat → when it was sent. */
  readonly #sent = new Map<number, number>();
  nextMs: number;
  roundTripMs: number | null = null;
  missed = 0;

  constructor(nowMs: number, intervalMs: number) {
    this.#intervalMs = intervalMs;
    this.nextMs = nowMs + intervalMs;
  }

  /** A heartbeat goes out; those before it that have no answer yet are missed. */
  beat(nowMs: number, timestampMs: number): void {
    this.missed = this.#sent.size;
    for (const earliest of this.#sent.keys()) {
      if (this.#sent.size <= MISSED_UNTIL_LOST) break;
      this.#sent.delete(earliest);
    }
    this.#sent.set(timestampMs, nowMs);
    this.nextMs = nowMs + this.#intervalMs;
  }

  /** An answer came; it speaks for the heartbeats before it too, since a socket keeps its order. */
  answered(nowMs: number, timestampMs: number): boolean {
    const sentMs = this.#sent.get(timestampMs);
    if (sentMs === undefined) return false;
    this.roundTripMs = nowMs - sentMs;
    this.missed = 0;
    for (const earlier of [...this.#sent.keys()]) {
      this.#sent.delete(earlier);
      if (earlier === timestampMs) break;
    }
    return true;
  }

  /** So many are missed, and nothing else came since the first of them: it is not worth waiting any longer. */
  lost(lastHeardMs: number): boolean {
    const [firstSentMs = 0] = this.#sent.values();
    return this.missed >= MISSED_UNTIL_LOST && lastHeardMs < firstSentMs;
  }
}
