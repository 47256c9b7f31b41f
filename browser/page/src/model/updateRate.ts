/** Length of the window over which the rate is taken. */
const WINDOW_MS = 3000;
const BUCKET_MS = 100;
const BUCKETS = WINDOW_MS / BUCKET_MS;

/** How many updates a second came within the last three seconds. Times are of a clock that only goes forward. */
export class UpdateRate {
  #counts: number[] = new Array<number>(BUCKETS).fill(0);
  #newest = 0;
  #sinceMs: number | null = null;

  note(updates: number, nowMs: number): void {
    this.#sinceMs ??= nowMs;
    this.#advance(nowMs);
    const slot = this.#newest % BUCKETS;
    this.#counts[slot] = (this.#counts[slot] ?? 0) + updates;
  }

  perSecond(nowMs: number): number {
    if (this.#sinceMs === null) return 0;
    this.#advance(nowMs);
    const seenMs = Math.min(WINDOW_MS, Math.max(nowMs - this.#sinceMs, 1000));
    return (this.#counts.reduce((sum, count) => sum + count, 0) * 1000) / seenMs;
  }

  #advance(nowMs: number): void {
    const bucket = Math.floor(nowMs / BUCKET_MS);
    const passed = Math.min(bucket - this.#newest, BUCKETS);
    for (let step = 1; step <= passed; step += 1) this.#counts[(this.#newest + step) % BUCKETS] = 0;
    if (bucket > this.#newest) this.#newest = bucket;
  }
}
