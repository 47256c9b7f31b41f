/** A channel that got `connected`, and what belongs to it alone. */

import { refreshInMs } from "./accessToken.ts";
import type { Channel, ChannelEnd } from "./channel.ts";
import type { Connected, Position, ReconnectCause } from "./events.ts";
import type { ConnectedFrame } from "./frames.ts";
import { Heartbeats } from "./heartbeats.ts";
import { SendRate } from "./sendRate.ts";
import { SequenceChecker } from "./sequence.ts";
import { Silence } from "./silence.ts";
import type { Slot } from "./slot.ts";

/** An event stream has a comment every 15 s at least, and cannot be asked. */
const STREAM_SPEAKS_WITHIN_MS = 20_000;
const DEFAULT_MESSAGES_PER_SECOND = 20;
const DEFAULT_MESSAGE_BURST = 40;

/** How a channel came to be. `stated`: the position that was said; `symbols`: the filter. */
export interface Opened {
  readonly channel: Channel;
  readonly frame: ConnectedFrame;
  readonly url: string;
  readonly attempt: number;
  readonly token: string;
  readonly stated: Position | null;
  readonly symbols: readonly string[];
  readonly cause: ReconnectCause;
  readonly nowMs: number;
  /** By the service's clock. */
  readonly unixMs: number;
  readonly silenceLimitMs: number;
}

/**
 * `superseded`: the client left it for a newer one; what it says and how it ends are of no interest any more.
 * `ended` is set when nothing more comes of it; `closeCode` then, null where the network ended it.
 */
export class LiveChannel {
  readonly channel: Channel;
  readonly frame: ConnectedFrame;
  readonly url: string;
  readonly attempt: number;
  readonly cause: ReconnectCause;
  readonly stated: Position | null;
  /** The filter that it was opened under. */
  readonly symbols: readonly string[];
  readonly openedAtMs: number;
  readonly checker: SequenceChecker;
  readonly heartbeats: Heartbeats;
  readonly silence: Silence;
  readonly rate: SendRate;
  token: string;
  lastHeardMs: number;
  simulatorRuns: boolean;
  /** When the token is to be renewed. */
  refreshAtMs: number | null;
  /** When a snapshot was asked for, to mend the sequence. */
  mendAskedMs: number | null = null;
  /** The last snapshot was behind what was known by then, and another one is needed. */
  snapshotMissed = false;
  /** When a command may go that had to wait. */
  sendAtMs: number | null = null;
  slot: Slot | null = null;
  superseded = false;
  ended = false;
  endedAtMs = 0;
  closeCode: number | null = null;
  /** What the service said of the end before it closed. */
  endCode: string | null = null;
  endReason = "";

  constructor(opened: Opened) {
    const { frame, nowMs, channel } = opened;
    this.channel = channel;
    this.frame = frame;
    this.url = opened.url;
    this.attempt = opened.attempt;
    this.cause = opened.cause;
    this.stated = opened.stated;
    this.symbols = opened.symbols;
    this.token = opened.token;
    this.openedAtMs = nowMs;
    this.lastHeardMs = nowMs;
    this.checker = new SequenceChecker(frame.resumed ? opened.stated : null);
    this.heartbeats = new Heartbeats(nowMs, frame.heartbeatIntervalMs);
    this.silence = new Silence(nowMs, channel.kind === "sse" ? 2 * STREAM_SPEAKS_WITHIN_MS : opened.silenceLimitMs);
    this.rate = new SendRate(nowMs, {
      messagesPerSecond: frame.limits.messagesPerSecond ?? DEFAULT_MESSAGES_PER_SECOND,
      messageBurst: frame.limits.messageBurst ?? DEFAULT_MESSAGE_BURST,
    });
    this.simulatorRuns = frame.simulatorStatus === "RUNNING";
    const refreshMs = refreshInMs(opened.token, opened.unixMs);
    this.refreshAtMs = refreshMs === null ? null : nowMs + refreshMs;
  }

  /** Whether something has to come: the service promised it, or was asked. */
  get mustSpeak(): boolean {
    return this.channel.kind === "sse" || this.simulatorRuns || this.silence.awaits(this.lastHeardMs);
  }

  get asEvent(): Connected {
    const { epoch, sequence } = this.frame;
    return {
      sessionId: this.frame.sessionId,
      clientId: this.frame.clientId,
      deviceId: this.frame.deviceId ?? "",
      attempt: this.attempt,
      url: this.url,
      transport: this.channel.kind,
      podName: this.frame.podName,
      isNew: this.frame.isNew,
      resumed: this.frame.resumed,
      position: epoch === null || sequence === null ? null : { epoch, sequence },
      simulatorStatus: this.frame.simulatorStatus,
      heartbeatIntervalMs: this.frame.heartbeatIntervalMs,
      expiresAt: this.frame.expiresAt,
    };
  }

  /** Nothing more comes of it. */
  end(nowMs: number, how: ChannelEnd): void {
    this.ended = true;
    this.endedAtMs = nowMs;
    this.closeCode = how.closeCode;
  }

  /** Give it up, since its peer is not there; `why` in words. */
  abandon(nowMs: number, why: string): void {
    if (this.ended) return;
    this.ended = true;
    this.endedAtMs = nowMs;
    if (this.endReason === "") this.endReason = why;
    this.channel.abandon();
  }
}
