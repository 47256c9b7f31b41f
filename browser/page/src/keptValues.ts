/** The part of Storage that the page uses. */
export type KeptValues = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/** What `open` opens; where the browser refuses it, values are kept for as long as the page is open. */
export function keptValues(open: () => Storage): KeptValues {
  try {
    return open();
  } catch {
    // SecurityError: a browser that blocks a site's data.
    return new ForgottenValues();
  }
}

class ForgottenValues implements KeptValues {
  readonly #values = new Map<string, string>();

  getItem(key: string): string | null {
    return this.#values.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.#values.set(key, value);
  }

  removeItem(key: string): void {
    this.#values.delete(key);
  }
}
