/** Whether the page, or the whole machine, slept. Pure: times are given. */

/** So late, or so far off the time of day. */
const SLEPT_MS = 2_000;

export class SleepWatch {
  #nowMs: number;
  #unixMs: number;

  constructor(nowMs: number, unixMs: number) {
    this.#nowMs = nowMs;
    this.#unixMs = unixMs;
  }

  /** `dueMs`: when this look was to be made, null where any time would do. A sleep is noticed once. */
  slept(nowMs: number, unixMs: number, dueMs: number | null): boolean {
    // A monotonic clock may stand while the machine sleeps; the time of day does not.
    const unseenMs = unixMs - this.#unixMs - (nowMs - this.#nowMs);
    this.#nowMs = nowMs;
    this.#unixMs = unixMs;
    return unseenMs > SLEPT_MS || (dueMs !== null && nowMs - dueMs > SLEPT_MS);
  }
}
