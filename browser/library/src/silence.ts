/** Whether a connection that must speak has fallen silent (docs/exchange-data.md#numbers). Pure: times are given. */

/** A look that is later than this: the page's own loop does not keep up, or its timers are throttled. */
export const HELD_UP_MS = 100;

/**
 * - `nothing`: it speaks, or it is too early to say;
 * - `ask`: send it something that it has to answer;
 * - `lost`: it says nothing and answers nothing.
 */
export type Look = "nothing" | "ask" | "lost";

/**
 * Looks at one connection on which something has to come more often than every `limitMs` / 2.
 *
 * After half the limit it is asked: a pod that is there answers, though its simulator may be silent. A look that comes
 * late says that the page was held up, not that the connection was silent: what has arrived meanwhile waits to be read.
 * It is put off, but once only: the timers of a hidden page are always late.
 */
export class Silence {
  readonly #limitMs: number;
  #askedMs: number | null = null;
  #putOffMs: number | null = null;
  /** When to look again. */
  nextMs: number;

  constructor(nowMs: number, limitMs: number) {
    this.#limitMs = limitMs;
    this.nextMs = nowMs + limitMs / 2;
  }

  /** It was asked for another reason, and has to answer from now on. */
  asked(nowMs: number): void {
    this.#askedMs = nowMs;
    this.nextMs = nowMs + this.#limitMs / 2;
  }

  /** Whether an answer is still owed. */
  awaits(lastHeardMs: number): boolean {
    return this.#askedMs !== null && this.#askedMs > lastHeardMs;
  }

  look(nowMs: number, lastHeardMs: number): Look {
    if (nowMs < this.nextMs) return "nothing";
    const speaksUntilMs = lastHeardMs + this.#limitMs / 2;
    if (nowMs < speaksUntilMs) {
      this.nextMs = speaksUntilMs;
      return "nothing";
    }
    const alreadyPutOff = this.#putOffMs !== null && this.#putOffMs > lastHeardMs;
    if (nowMs - this.nextMs > HELD_UP_MS && !alreadyPutOff) {
      this.#putOffMs = nowMs;
      this.nextMs = nowMs + this.#limitMs / 4;
      return "nothing";
    }
    if (!this.awaits(lastHeardMs)) {
      this.asked(nowMs);
      return "ask";
    }
    return "lost";
  }
}
