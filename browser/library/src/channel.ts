/** One connection to the service as the rest of the library sees it: text in, text out, an end. */

import type { Position, TransportKind } from "./events.ts";

/** `query`: what docs/protocol.md#connecting names, but for `epoch` and `sequence`, which are `position`. */
export interface OpenRequest {
  readonly url: string;
  readonly sessionId: string | null;
  readonly query: Readonly<Record<string, string>>;
  readonly position: Position | null;
  readonly token: string;
}

/**
 * How a channel ended that was not left.
 *
 * `closeCode` null: no close frame came. `status`, `code`, `message`, `retryAfterMs`: of an HTTP answer that could be
 * read; a browser shows none of a refused upgrade.
 */
export interface ChannelEnd {
  readonly closeCode: number | null;
  readonly status: number | null;
  readonly code: string | null;
  readonly message: string;
  readonly retryAfterMs: number | null;
}

/** `heard`: something came that is no frame. Nothing is called after `ended`. */
export interface ChannelListener {
  frame(text: string): void;
  heard(): void;
  ended(end: ChannelEnd): void;
}

/** An event stream sends nothing: `send` is for WebSockets only. */
export interface Channel {
  readonly kind: TransportKind;
  /** Given to `send`, and not yet taken by the network. */
  readonly unsentBytes: number;
  send(text: string): void;
  /** Close with 1000. What still comes is told, and then the end. */
  leave(): void;
  /** The peer is not there to hear a word: nothing is told any more. */
  abandon(): void;
}

export type OpenChannel = (request: OpenRequest, listener: ChannelListener) => Channel;

export const LOST: ChannelEnd = { closeCode: null, status: null, code: null, message: "", retryAfterMs: null };
