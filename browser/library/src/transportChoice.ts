/** WebSockets or server-sent events. Pure. */

import type { TransportKind } from "./events.ts";

/** Upgrades in a row that failed while the service answered over HTTP. */
export const FAILURES_UNTIL_FALLBACK = 3;
const FIRST_RETURN_MS = 60_000;
const LAST_RETURN_MS = 600_000;

/** `mode` `auto` begins with WebSockets, falls back where these do not get through, and tries them again. */
export class TransportChoice {
  readonly #mode: "auto" | TransportKind;
  #failures = 0;
  #returnMs = FIRST_RETURN_MS;

  constructor(mode: "auto" | TransportKind) {
    this.#mode = mode;
  }

  /** What the next try uses. */
  get kind(): TransportKind {
    if (this.#mode !== "auto") return this.#mode;
    return this.#failures >= FAILURES_UNTIL_FALLBACK ? "sse" : "websocket";
  }

  /** Whether it is worth asking over HTTP why an upgrade failed: once may be a pod that went. */
  get asks(): boolean {
    return this.#mode !== "sse" && this.#failures > 0;
  }

  webSocketOpened(): void {
    this.#failures = 0;
    this.#returnMs = FIRST_RETURN_MS;
  }

  /** An upgrade failed. `reachable`: at that moment the service answered over HTTP; false also where nobody asked. */
  webSocketFailed(reachable: boolean): void {
    this.#failures = reachable ? this.#failures + 1 : 1;
  }

  /** The service itself refused an event stream: it was not the WebSockets that did not get through. */
  streamRefused(): void {
    if (this.#mode === "auto") this.#failures = 0;
  }

  /** Over server-sent events: how long until WebSockets are tried again, doubling up to 10 minutes; null: never. */
  nextReturnMs(): number | null {
    if (this.#mode !== "auto") return null;
    const returnMs = this.#returnMs;
    this.#returnMs = Math.min(LAST_RETURN_MS, returnMs * 2);
    return returnMs;
  }
}
