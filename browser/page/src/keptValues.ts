/** The part of Storage that the page uses. */
export type KeptValues = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/** What `open` opens; what the browser refuses to keep there is kept for as long as the page is open. Throws nothing. */
export function keptValues(open: () => Storage): KeptValues {
  try {
    return new StoredValues(open());
  } catch {
    // SecurityError: a browser that blocks a site's data.
    return new ForgottenValues();
  }
}

/** A storage may be full at any moment: no order and no sign-in fails of that. */
class StoredValues implements KeptValues {
  readonly #storage: Storage;
  readonly #notStored = new ForgottenValues();

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  getItem(key: string): string | null {
    return this.#notStored.getItem(key) ?? this.#storage.getItem(key);
  }

  setItem(key: string, value: string): void {
    try {
      this.#storage.setItem(key, value);
      this.#notStored.removeItem(key);
    } catch {
      // QuotaExceededError.
      this.#notStored.setItem(key, value);
    }
  }

  removeItem(key: string): void {
    this.#storage.removeItem(key);
    this.#notStored.removeItem(key);
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
