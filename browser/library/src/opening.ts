/** One try to open a connection: a token, where needed a session, a channel, and `connected` on it. */

import type { TokenSource } from "./accessToken.ts";
import type { Channel, ChannelEnd, OpenChannel } from "./channel.ts";
import type { ClientIdentity } from "./clientIdentity.ts";
import { afterClose, afterRefusal, type Final, RETRY, type Retry } from "./closeCodes.ts";
import { ServiceError } from "./errors.ts";
import type { Position, ReconnectCause, TransportKind } from "./events.ts";
import { LiveChannel } from "./liveChannel.ts";
import type { Clock } from "./platform.ts";
import { readFrame } from "./readFrame.ts";
import type { RestClient } from "./rest.ts";

/** `unexplained`: an upgrade failed, and nobody can see why. */
export interface FailedOpening {
  readonly url: string;
  readonly kind: TransportKind;
  readonly reason: string;
  readonly closeCode: number | null;
  readonly status: number | null;
  readonly decision: Retry | Final;
  readonly unexplained: boolean;
}

export interface OpeningParts {
  readonly clock: Clock;
  readonly tokens: TokenSource;
  readonly identity: ClientIdentity;
  readonly openWebSocket: OpenChannel;
  readonly openEventStream: OpenChannel;
  readonly rest: RestClient;
  readonly silenceLimitMs: number;
}

export interface Plan {
  readonly url: string;
  readonly kind: TransportKind;
  readonly sessionId: string | null;
  readonly symbols: readonly string[];
  readonly stated: Position | null;
  readonly cause: ReconnectCause;
  readonly limitMs: number;
}

/** `opened` or `failed` comes once, unless the try was cancelled; the others only after `opened`. */
export interface OpeningListener {
  opened(live: LiveChannel): void;
  failed(failure: FailedOpening): void;
  frame(live: LiveChannel, text: string): void;
  heard(live: LiveChannel): void;
  ended(live: LiveChannel, end: ChannelEnd): void;
}

export class Opening {
  readonly #parts: OpeningParts;
  readonly #plan: Plan;
  readonly #listener: OpeningListener;
  #channel: Channel | null = null;
  #live: LiveChannel | null = null;
  #over = false;
  #takeBackLimit: () => void = () => {};
  #code: string | null = null;
  #message = "";
  #token = "";
  #attempt = 0;

  constructor(parts: OpeningParts, plan: Plan, listener: OpeningListener) {
    this.#parts = parts;
    this.#plan = plan;
    this.#listener = listener;
    void this.#begin();
  }

  /** Nothing is told of it any more, and no connection is left behind. */
  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#takeBackLimit();
    this.#channel?.abandon();
  }

  async #begin(): Promise<void> {
    const { tokens, rest, identity, clock } = this.#parts;
    try {
      this.#token = await tokens.get("connect");
    } catch (error) {
      const kind = error instanceof Error ? error.name : typeof error;
      this.#fail({ reason: `no token: ${kind}`, decision: RETRY, unexplained: false });
      return;
    }
    let { sessionId } = this.#plan;
    if (this.#plan.kind === "sse" && sessionId === null && !this.#over) {
      try {
        ({ sessionId } = await rest.openSession(identity.deviceId));
      } catch (error) {
        const refusal = error instanceof ServiceError ? error : null;
        const decision =
          refusal === null
            ? RETRY
            : afterRefusal(refusal.status, refusal.code, refusal.message, refusal.retryAfterMs);
        this.#fail({ reason: "no session", status: refusal?.status ?? null, decision, unexplained: false });
        return;
      }
    }
    if (this.#over) return;
    this.#attempt = identity.nextAttempt();
    this.#takeBackLimit = clock.after(this.#plan.limitMs, () => this.#tooLate());
    this.#open(sessionId);
  }

  #open(sessionId: string | null): void {
    const { identity, openWebSocket, openEventStream } = this.#parts;
    const { url, kind, symbols, stated } = this.#plan;
    const open = kind === "sse" ? openEventStream : openWebSocket;
    const query: Record<string, string> = {
      deviceId: identity.deviceId,
      clientId: identity.clientId,
      attempt: String(this.#attempt),
    };
    if (symbols.length > 0) query.symbols = symbols.join(",");
    try {
      this.#channel = open(
        { url, sessionId, query, position: stated, token: this.#token },
        {
          frame: (text) => this.#onFrame(text),
          heard: () => {
            if (this.#live !== null) this.#listener.heard(this.#live);
          },
          ended: (end) => this.#onEnded(end),
        },
      );
    } catch (error) {
      // A page that may not open it (mixed content, a policy) is told so by an exception.
      const words = error instanceof Error ? error.name : "refused by the browser";
      this.#fail({ reason: words, decision: RETRY, unexplained: kind === "websocket" });
    }
  }

  #onFrame(text: string): void {
    if (this.#live !== null) {
      this.#listener.frame(this.#live, text);
      return;
    }
    if (this.#over || this.#channel === null) return;
    const frame = readFrame(text);
    if (frame?.type === "error") {
      this.#code = frame.errorCode;
      this.#message = frame.message;
    } else if (frame?.type === "session_ended" || frame?.type === "connection_replaced") {
      this.#code = frame.type === "session_ended" ? "SESSION_ENDED" : "CONNECTION_REPLACED";
      this.#message = frame.reason;
    } else if (frame?.type === "connected") {
      const { clock, tokens, silenceLimitMs } = this.#parts;
      tokens.serviceTime(frame.timestamp);
      this.#over = true;
      this.#takeBackLimit();
      const { url, stated, symbols, cause } = this.#plan;
      this.#live = new LiveChannel({
        channel: this.#channel,
        frame,
        url,
        attempt: this.#attempt,
        token: this.#token,
        stated,
        symbols,
        cause,
        nowMs: clock.nowMs(),
        unixMs: tokens.unixMs(),
        silenceLimitMs,
      });
      this.#listener.opened(this.#live);
    }
  }

  #onEnded(end: ChannelEnd): void {
    if (this.#live !== null) {
      this.#listener.ended(this.#live, end);
      return;
    }
    if (end.status !== null) {
      const { status, code, message, retryAfterMs } = end;
      const decision = afterRefusal(status, code ?? "UNKNOWN", message, retryAfterMs);
      this.#fail({ reason: `refused with HTTP ${status}`, status, decision, unexplained: false });
      return;
    }
    const { closeCode } = end;
    const decision = afterClose({ closeCode, code: this.#code, reason: this.#message, superseded: false });
    const said = closeCode !== null || this.#code !== null;
    this.#fail({
      reason: this.#message || (closeCode === null ? "no connection" : `closed with ${closeCode}`),
      closeCode,
      decision,
      unexplained: !said && this.#plan.kind === "websocket",
    });
  }

  #tooLate(): void {
    this.#channel?.abandon();
    this.#fail({ reason: "no connection in time", decision: RETRY, unexplained: this.#plan.kind === "websocket" });
  }

  #fail(
    failure: Pick<FailedOpening, "reason" | "decision" | "unexplained"> &
      Partial<Pick<FailedOpening, "closeCode" | "status">>,
  ): void {
    if (this.#over) return;
    this.#over = true;
    this.#takeBackLimit();
    const { url, kind } = this.#plan;
    this.#listener.failed({ url, kind, closeCode: null, status: null, ...failure });
  }
}
