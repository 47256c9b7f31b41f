/** What the library takes from its surroundings; tests give their own. */

/** `nowMs`: monotonic; `unixMs`: the time of day, which goes on while a machine sleeps. Both in milliseconds. */
export interface Clock {
  nowMs(): number;
  unixMs(): number;
  /** Calls `callback` once, after `delayMs`; the function that is returned takes it back. */
  after(delayMs: number, callback: () => void): () => void;
}

/** What a socket tells; `closed` comes once, also where it could not be opened (RFC 6455 §7.1.5: with 1006). */
export interface SocketListener {
  message(data: unknown): void;
  closed(code: number, reason: string): void;
}

/** The part of the browser's WebSocket that is used. */
export interface SocketLike {
  readonly bufferedAmount: number;
  send(text: string): void;
  close(code?: number): void;
}

/** Throws what `new WebSocket` throws. */
export type SocketFactory = (url: string, protocols: readonly string[], listener: SocketListener) => SocketLike;

/**
 * - `visible`: the page is shown again;
 * - `online`: there is a network again;
 * - `resumed`: the page was frozen, or comes out of the cache of pages;
 * - `left`: the page is left, maybe for good.
 */
export type PageSignal = "visible" | "online" | "resumed" | "left";

/** Calls `listener` until the function that is returned is called. */
export type PageSignals = (listener: (signal: PageSignal) => void) => () => void;

/**
 * `socket` null: there are no WebSockets here; `fetch` null: neither REST nor server-sent events. `random` gives numbers
 * in [0, 1).
 */
export interface Platform {
  readonly socket: SocketFactory | null;
  readonly fetch: typeof globalThis.fetch | null;
  readonly clock: Clock;
  readonly random: () => number;
  readonly pageSignals: PageSignals;
}
