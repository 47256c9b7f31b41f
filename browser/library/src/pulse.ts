/** Whether a connection lives, and how well: heartbeats, silence, quality. */

import type { Quality } from "./events.ts";
import type { ClientMessage, HeartbeatAckFrame } from "./frames.ts";
import type { LiveChannel } from "./liveChannel.ts";
import type { Clock } from "./platform.ts";
import type { Counters } from "./statistics.ts";
import type { Teller } from "./teller.ts";

interface Parts {
  readonly clock: Clock;
  readonly counters: Counters;
  readonly identity: { readonly deviceId: string };
  readonly view: { readonly position: { readonly sequence: number } | null };
  readonly timing: { readonly silenceLimitMs: number };
}

/** Over all connections of a client; what belongs to one of them stands in its LiveChannel. */
export class Pulse {
  quality: Quality = "GOOD";
  readonly #parts: Parts;
  readonly #teller: Teller;
  readonly #send: (live: LiveChannel, message: ClientMessage) => void;

  constructor(parts: Parts, teller: Teller, send: (live: LiveChannel, message: ClientMessage) => void) {
    this.#parts = parts;
    this.#teller = teller;
    this.#send = send;
  }

  /** A heartbeat when it is due, and early where the connection is silent; given up where it stays so. */
  feel(live: LiveChannel, nowMs: number): void {
    const look = live.mustSpeak ? live.silence.look(nowMs, live.lastHeardMs) : "nothing";
    if (live.channel.kind === "sse") {
      if (look !== "nothing") live.abandon(nowMs, "silent for 20 s");
    } else if (look === "lost") {
      live.abandon(nowMs, `silent, and no answer within ${this.#parts.timing.silenceLimitMs / 2000} s`);
    } else if (look === "ask" || nowMs >= live.heartbeats.nextMs) this.#beat(live, nowMs);
  }

  /** Ask a socket at once: it is given up where it says nothing for half the limit of silence. */
  ask(live: LiveChannel, nowMs: number): void {
    this.#beat(live, nowMs);
    live.silence.asked(nowMs);
  }

  /** `present`: of a connection that is only being moved to, nothing is told. */
  answered(live: LiveChannel, frame: HeartbeatAckFrame, nowMs: number, present: boolean): void {
    if (!live.heartbeats.answered(nowMs, frame.clientTimestamp)) return;
    this.#parts.counters.roundTripMs = live.heartbeats.roundTripMs;
    this.#judge(frame.connectionQuality, frame.reconnectRecommended, present);
  }

  /** The service's judgement came by itself: only a change is news. */
  judged(quality: Quality, reconnectRecommended: boolean, present: boolean): void {
    if (quality !== this.quality) this.#judge(quality, reconnectRecommended, present);
  }

  #judge(quality: Quality, reconnectRecommended: boolean, present: boolean): void {
    this.quality = quality;
    const { roundTripMs } = this.#parts.counters;
    if (present) this.#teller.tell("onQuality", { quality, reconnectRecommended, roundTripMs });
  }

  #beat(live: LiveChannel, nowMs: number): void {
    const { heartbeats } = live;
    const { clock, counters, identity, view } = this.#parts;
    const timestamp = Math.floor(clock.unixMs());
    heartbeats.beat(nowMs, timestamp);
    counters.heartbeats += 1;
    if (heartbeats.missed > 0) {
      counters.heartbeatsMissed += 1;
      if (heartbeats.lost(live.lastHeardMs)) {
        live.abandon(nowMs, `${heartbeats.missed} heartbeats without an answer`);
        return;
      }
    }
    const sequence = view.position?.sequence ?? null;
    const { deviceId } = identity;
    this.#send(live, { type: "heartbeat", timestamp, deviceId, connectionQuality: this.quality, sequence });
    if (heartbeats.roundTripMs === null) return;
    const latencyMs = Math.max(0, Math.round(heartbeats.roundTripMs * 1000) / 1000);
    this.#send(live, { type: "connection_quality", latencyMs, missedHeartbeats: heartbeats.missed });
  }
}
