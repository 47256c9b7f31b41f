/** How fast messages may go out (docs/protocol.md, "Limits"): a service that gets more closes with 4029. Pure. */

/** Of what the service allows: answers to its pings count too, and a network may deliver in bunches. */
const SHARE = 0.75;

/** What sums of fractions may be off. */
const ROUNDING = 1e-6;

/** A bucket that fills with time; each message takes one from it. Heartbeats may take what commands have to leave. */
export class SendRate {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #reserve: number;
  #level: number;
  #atMs: number;

  constructor(nowMs: number, limits: { readonly messagesPerSecond: number; readonly messageBurst: number }) {
    this.#perMs = (limits.messagesPerSecond * SHARE) / 1000;
    this.#burst = Math.max(1, limits.messageBurst * SHARE);
    this.#reserve = Math.min(4, this.#burst - 1);
    this.#level = this.#burst;
    this.#atMs = nowMs;
  }

  /** How long a command has to wait, in whole milliseconds: 0, and it may go. */
  waitMs(nowMs: number): number {
    this.#fill(nowMs);
    const missing = this.#reserve + 1 - this.#level;
    return missing <= ROUNDING ? 0 : Math.ceil(missing / this.#perMs);
  }

  sent(nowMs: number): void {
    this.#fill(nowMs);
    this.#level -= 1;
  }

  #fill(nowMs: number): void {
    this.#level = Math.min(this.#burst, this.#level + Math.max(0, nowMs - this.#atMs) * this.#perMs);
    this.#atMs = nowMs;
  }
}
