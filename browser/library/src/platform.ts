/** What the library takes from its surroundings; tests give their own. */

/** `nowMs`: monotonic; `unixMs`: the time of day, which goes on while a machine sleeps. Both in milliseconds. */
export interface Clock {
  nowMs(): number;
  unixMs(): number;
  /** Calls `callback` once, after `delayMs`; the function that is returned takes it back. */
  after(delayMs: number, callback: () => void): () => void;
}

/** The part of the browser's WebSocket that is used. */
export interface SocketLike {
  readonly bufferedAmount: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type SocketFactory = (url: string, protocols: readonly string[]) => SocketLike;

/** Something outside says that now is a good moment to look: the tab is shown again, the network is back. */
export type WakeSignal = (wake: (why: "visible" | "online" | "resumed") => void) => () => void;

/**
 * `socket` null: there are no WebSockets here; `fetch` null: neither REST nor server-sent events. `random` gives numbers
 * in [0, 1).
 */
export interface Platform {
  readonly socket: SocketFactory | null;
  readonly fetch: typeof globalThis.fetch | null;
  readonly clock: Clock;
  readonly random: () => number;
  readonly wakeSignal: WakeSignal;
}
