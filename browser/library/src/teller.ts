/** Calls of the user's listeners. */

import type { Listeners } from "./options.ts";

type Told<Name extends keyof Listeners> = Parameters<NonNullable<Listeners[Name]>>[0];

/** What a listener throws is its own fault, and an uncaught error as in any other event handler: nothing else stops. */
export class Teller {
  #listeners: Listeners;

  constructor(listeners: Listeners) {
    this.#listeners = listeners;
  }

  tell<Name extends keyof Listeners>(name: Name, told: Told<Name>): void {
    const listener = this.#listeners[name] as ((told: Told<Name>) => void) | undefined;
    try {
      listener?.(told);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  /** The last word was said: whatever is under way tells nothing any more. */
  end(): void {
    this.#listeners = {};
  }
}
