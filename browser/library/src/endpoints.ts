/** Which of several base addresses comes next. Pure: times are given. */

/** Base addresses in a ring. One serves until it is left; then its turn comes after all the others. */
export class Endpoints {
  readonly #urls: readonly string[];
  readonly #notBeforeMs = new Map<string, number>();
  #index = 0;

  /** Throws TypeError where there is none. */
  constructor(urls: readonly string[]) {
    if (urls.length === 0) throw new TypeError("url: at least one address is needed");
    this.#urls = [...new Set(urls)];
  }

  get size(): number {
    return this.#urls.length;
  }

  /** The next address, and how long to wait for it: 0 unless every one of them asked to be left alone. */
  choose(nowMs: number): { readonly url: string; readonly waitMs: number } {
    let best = { url: "", waitMs: Number.POSITIVE_INFINITY };
    for (let step = 0; step < this.#urls.length; step += 1) {
      const url = this.#urls[(this.#index + step) % this.#urls.length] as string;
      const waitMs = Math.max(0, (this.#notBeforeMs.get(url) ?? 0) - nowMs);
      if (waitMs < best.waitMs) best = { url, waitMs };
    }
    return best;
  }

  /** Prefer another one from now on; do not use this one before the instant that it asked for. */
  leave(url: string, notBeforeMs = 0): void {
    this.#index = (this.#urls.indexOf(url) + 1) % this.#urls.length;
    this.#notBeforeMs.set(url, Math.max(notBeforeMs, this.#notBeforeMs.get(url) ?? 0));
  }
}
