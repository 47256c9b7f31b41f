/**
 * The live connection of one client: one numbered channel at a time, and while it moves two.
 *
 * Frames, ends of channels, signals of the page and one timer come in; each does what is due then. Nothing runs between.
 */

import { refreshAgainInMs, refreshInMs, type TokenSource } from "./accessToken.ts";
import type { ChannelEnd } from "./channel.ts";
import { type ClientIdentity, newId } from "./clientIdentity.ts";
import { ABNORMAL_CLOSURE, afterClose, type Final, RETRY } from "./closeCodes.ts";
import { CommandSender } from "./commandSender.ts";
import type { Commands } from "./commands.ts";
import type { Endpoints } from "./endpoints.ts";
import { ConnectionEndedError, ServiceError } from "./errors.ts";
import type { ConnectionStatus, ExchangeData, Quality, SimulatorState, SimulatorStatus } from "./events.ts";
import { ExchangeFollower } from "./exchangeFollower.ts";
import type { ExchangeView } from "./exchangeView.ts";
import { explainRefusal } from "./explainRefusal.ts";
import type { ClientMessage, HeartbeatAckFrame, ServerFrame } from "./frames.ts";
import type { LiveChannel } from "./liveChannel.ts";
import { type FailedOpening, Opening, type OpeningParts, type Plan } from "./opening.ts";
import type { Listeners, Timing } from "./options.ts";
import type { Clock } from "./platform.ts";
import { Pulse } from "./pulse.ts";
import { exchangeData, readFrame, type UnreadableFrame } from "./readFrame.ts";
import type { RestClient } from "./rest.ts";
import { SleepWatch } from "./sleepWatch.ts";
import { Slot } from "./slot.ts";
import type { Counters } from "./statistics.ts";
import { Teller } from "./teller.ts";
import type { TransportChoice } from "./transportChoice.ts";
import { Tries } from "./tries.ts";

/** A connection that lived so long was no failure: the next loss begins with a short pause again. */
const STABLE_MS = 5_000;
/** A try near the deadline of a slot gets so long. */
const MIN_OPEN_LIMIT_MS = 500;
/** A snapshot that was asked for and did not come is asked for again. */
const SNAPSHOT_LIMIT_MS = 5_000;
/** Checks that come closer together than this are one. */
const CHECK_INTERVAL_MS = 1_000;
/** An event stream is kept so long for a new one to take its place. */
const REFRESH_DEADLINE_MS = 10_000;

export interface LiveParts extends OpeningParts {
  readonly clock: Clock;
  readonly random: () => number;
  readonly tokens: TokenSource;
  readonly identity: ClientIdentity;
  readonly endpoints: Endpoints;
  readonly choice: TransportChoice;
  readonly timing: Timing;
  readonly view: ExchangeView;
  readonly commands: Commands;
  readonly counters: Counters;
  readonly listeners: Listeners;
  /** Why an upgrade failed: REST at that address alone, with little time. */
  readonly explainBy: (url: string) => RestClient;
}

/** `sessionId` and `symbols` are part of each opening, and may change in between. */
export class LiveConnection {
  sessionId: string | null;
  symbols: readonly string[];
  status: ConnectionStatus = { state: "connecting", reason: "", closeCode: null, retryInMs: null };
  /** The present, or the last one. */
  last: LiveChannel | null = null;
  simulator: SimulatorStatus | null = null;
  end: ConnectionEndedError | null = null;

  readonly #parts: LiveParts;
  readonly #clock: Clock;
  readonly #counters: Counters;
  readonly #teller: Teller;
  readonly #tries: Tries;
  readonly #sleepWatch: SleepWatch;
  readonly #follower: ExchangeFollower;
  readonly #sender: CommandSender;
  readonly #pulse: Pulse;
  #current: LiveChannel | null = null;
  /** While it moves: connected, and its first data is not there. */
  #successor: LiveChannel | null = null;
  /** A try under way, for want of a connection or beside one. */
  #opening: Opening | null = null;
  #tending = false;
  #again = false;
  #dueMs: number | null = null;
  #takeBackTimer: () => void = () => {};
  /** When the next try is due, while there is neither a connection nor a try. */
  #retryAtMs: number | null = null;
  #checkedMs = Number.NEGATIVE_INFINITY;
  #lostAtMs: number | null = null;
  readonly #onEnd: (end: ConnectionEndedError) => void;
  readonly #onOpen: (live: LiveChannel) => void;

  constructor(
    parts: LiveParts,
    start: { readonly sessionId: string | null; readonly symbols: readonly string[] },
    on: { readonly open: (live: LiveChannel) => void; readonly end: (end: ConnectionEndedError) => void },
  ) {
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#counters = parts.counters;
    this.#teller = new Teller(parts.listeners);
    this.#follower = new ExchangeFollower(parts.view, parts.counters, this.#teller);
    this.#pulse = new Pulse(parts, this.#teller, (live, message) => this.#send(live, message));
    this.#sender = new CommandSender(parts, {
      send: (live, message) => this.#send(live, message),
      reopen: (live, symbols) => {
        if (symbols !== null) this.symbols = symbols;
        if (live.slot?.cause !== "pod_terminating") live.slot = this.#slotNow(this.#clock.nowMs(), "refresh", true);
        this.#again = true;
      },
      wake: () => this.#tend(),
    });
    this.sessionId = start.sessionId;
    this.symbols = start.symbols;
    this.#onOpen = on.open;
    this.#onEnd = on.end;
    this.#tries = new Tries(parts.endpoints, parts.random, parts.timing.maxPauseMs);
    const nowMs = this.#clock.nowMs();
    this.#sleepWatch = new SleepWatch(nowMs, this.#clock.unixMs());
    this.#retryAtMs = nowMs;
    // Not in this turn: whoever made the connection has it in hand when the first listener is called.
    this.#schedule();
  }

  get quality(): Quality {
    return this.#pulse.quality;
  }

  /** There is something new to do, such as a command to send. */
  wake(): void {
    this.#tend();
  }

  /**
   * Something says that the connection may be gone, or possible again: after a sleep, or as the page is shown.
   *
   * A socket is asked, and given up where it says nothing for half the limit of silence; a try that waits is made now.
   */
  check(): void {
    const nowMs = this.#clock.nowMs();
    if (this.end !== null || nowMs - this.#checkedMs < CHECK_INTERVAL_MS) return;
    this.#checkedMs = nowMs;
    if (this.#retryAtMs !== null) {
      this.#retryAtMs = Math.min(this.#retryAtMs, nowMs + this.#tries.soonMs(nowMs));
    } else if (this.#current !== null && !this.#current.ended && this.#current.channel.kind === "websocket") {
      this.#pulse.ask(this.#current, nowMs);
    }
    this.#tend();
  }

  /** Drop the present connection as a network does, to try what happens then. */
  drop(): void {
    this.#current?.abandon(this.#clock.nowMs(), "dropped on request");
    this.#tend();
  }

  /** Leave with 1000. */
  close(): void {
    this.#finish(new ConnectionEndedError("CLIENT_CLOSED", "the connection was closed by its user"));
  }

  /** A token that came at its user's request, for the present connection. */
  useToken(token: string): void {
    const live = this.#current;
    if (live !== null && !live.ended) this.#handOver(live, token);
  }

  // --- opening -----------------------------------------------------------------------------------------------

  #connect(nowMs: number): void {
    const { url, waitMs } = this.#tries.next(nowMs);
    if (waitMs > 0) {
      this.#retryAtMs = nowMs + waitMs;
      return;
    }
    this.#retryAtMs = null;
    const { view, choice, timing } = this.#parts;
    const limitMs = timing.openTimeoutMs;
    this.#open({ url, kind: choice.kind, stated: view.position, cause: "lost", limitMs }, null);
  }

  /** `slot`: beside the present connection, which is read and written on. */
  #open(plan: Pick<Plan, "url" | "kind" | "stated" | "cause" | "limitMs">, slot: Slot | null): void {
    const whole: Plan = { ...plan, sessionId: this.sessionId, symbols: this.symbols };
    this.#opening = new Opening(this.#parts, whole, {
      opened: (live) => this.#onOpened(live, slot !== null),
      failed: (failure) => this.#onFailed(failure, slot),
      frame: (live, text) => this.#onText(live, text),
      heard: (live) => {
        live.lastHeardMs = this.#clock.nowMs();
      },
      ended: (live, end) => this.#onEnded(live, end),
    });
  }

  #onOpened(live: LiveChannel, beside: boolean): void {
    this.#opening = null;
    this.sessionId = live.frame.sessionId;
    this.#countOpened(live);
    if (live.channel.kind === "websocket") this.#parts.choice.webSocketOpened();
    else this.#planReturn(live);
    if (beside && this.#current !== null && !this.#current.ended) this.#successor = live;
    else if (beside) this.#switch(live);
    else this.#take(live);
    this.#tend();
  }

  #countOpened(live: LiveChannel): void {
    this.#counters.connections += 1;
    if (this.#counters.connections > 1) this.#counters.reconnects += 1;
    if (live.stated === null) return;
    if (live.frame.resumed) this.#counters.resumed += 1;
    else this.#counters.notResumed += 1;
  }

  /** Over an event stream: WebSockets are tried again beside it, since a network may be another one by then. */
  #planReturn(live: LiveChannel): void {
    const returnMs = this.#parts.choice.nextReturnMs();
    if (returnMs === null) return;
    const opensAtMs = live.openedAtMs + returnMs;
    const deadlineMs = Number.POSITIVE_INFINITY;
    live.slot = new Slot({ cause: "transport", opensAtMs, deadlineMs, transport: "websocket" });
  }

  #onFailed(failure: FailedOpening, slot: Slot | null): void {
    this.#counters.refused += 1;
    const { choice } = this.#parts;
    if (failure.kind === "sse" && failure.status !== null) choice.streamRefused();
    if (slot !== null) {
      this.#opening = null;
      this.#postpone(failure, slot);
      this.#tend();
    } else if (!failure.unexplained) {
      this.#opening = null;
      this.#plan(failure);
    } else if (choice.asks) {
      void this.#explain(failure);
    } else {
      this.#opening = null;
      choice.webSocketFailed(false);
      this.#plan(failure);
    }
  }

  /** What is final here is told again by the old connection's own end, or by the tries that follow it. */
  #postpone(failure: FailedOpening, slot: Slot): void {
    const nowMs = this.#clock.nowMs();
    if (slot.cause === "transport") {
      slot.postpone(nowMs + (this.#parts.choice.nextReturnMs() ?? 0));
      return;
    }
    const live = this.#current;
    if (slot.cause === "refresh" && failure.decision.kind === "final" && live?.slot === slot) {
      this.#keepStream(live, failure.decision);
      return;
    }
    const decision = failure.decision.kind === "retry" ? failure.decision : RETRY;
    slot.postpone(nowMs + this.#tries.failed(failure.url, decision, nowMs));
  }

  /** There is no stream as it was asked for, such as under another filter: the one that is there goes on as it is. */
  #keepStream(live: LiveChannel, { code, reason }: Final): void {
    this.symbols = live.symbols;
    live.slot = null;
    this.#planReturn(live);
    this.#sender.refuse(live, new ServiceError(code, reason));
  }

  /** A browser does not say why an upgrade failed: REST does. */
  async #explain(failure: FailedOpening): Promise<void> {
    const opening = this.#opening;
    const { explainBy, identity, choice } = this.#parts;
    const found = await explainRefusal(explainBy(failure.url), this.sessionId, identity.deviceId);
    if (this.#opening !== opening || this.end !== null) return;
    this.#opening = null;
    choice.webSocketFailed(found.reachable);
    this.#plan({ ...failure, reason: found.reason || failure.reason, decision: found.decision });
  }

  /** Decide on the next try, and tell of it. */
  #plan(failure: Pick<FailedOpening, "url" | "reason" | "closeCode" | "decision">): void {
    const { decision, url, reason, closeCode } = failure;
    if (decision.kind === "final") {
      this.#finish(new ConnectionEndedError(decision.code, decision.reason, closeCode));
      return;
    }
    const nowMs = this.#clock.nowMs();
    const retryInMs = this.#tries.failed(url, decision, nowMs);
    this.#retryAtMs = nowMs + retryInMs;
    this.#schedule();
    const state = this.last === null ? "connecting" : "reconnecting";
    this.#tellStatus({ state, reason, closeCode, retryInMs });
  }

  /** A connection becomes the present one, and its user is told. */
  #take(live: LiveChannel): void {
    const nowMs = this.#clock.nowMs();
    const before = this.last;
    const pauseMs = this.#lostAtMs === null ? 0 : nowMs - this.#lostAtMs;
    if (before !== null) this.#follower.connectionIsNew(pauseMs);
    this.#lostAtMs = null;
    this.#retryAtMs = null;
    this.#current = live;
    this.last = live;
    this.#onOpen(live);
    if (this.status.state !== "open") {
      this.#tellStatus({ state: "open", reason: "", closeCode: null, retryInMs: null });
    }
    if (before !== null) this.#teller.tell("onReconnected", { ...live.asEvent, pauseMs, cause: live.cause });
    this.#simulatorIs(live.frame.simulatorStatus);
    if (before !== null && live.cause === "refresh") this.#sender.answerByStream(before);
    if (!sameFilter(live.symbols, this.symbols)) this.#changeFilter(live);
  }

  /** The filter became another one after this connection was asked for, on the one before it. */
  #changeFilter(live: LiveChannel): void {
    if (this.end !== null) return; // a listener may have closed it
    const { symbols } = this;
    if (live.channel.kind === "websocket") this.#send(live, { type: "subscribe", requestId: newId(), symbols });
    else this.#askForSnapshot(live);
  }

  // --- what is due -------------------------------------------------------------------------------------------

  /** Do what is due, and come again when something will be. */
  #tend(): void {
    if (this.end !== null) return;
    this.#again = true;
    if (this.#tending) return;
    this.#tending = true;
    try {
      while (this.#again && this.end === null) {
        this.#again = false;
        this.#tendOnce();
      }
    } finally {
      this.#tending = false;
    }
    this.#schedule();
  }

  #tendOnce(): void {
    const nowMs = this.#clock.nowMs();
    if (this.#sleepWatch.slept(nowMs, this.#clock.unixMs(), this.#dueMs)) this.#onSlept(nowMs);
    if (this.#retryAtMs !== null && nowMs >= this.#retryAtMs && this.#opening === null) this.#connect(nowMs);
    this.#move(nowMs);
    const live = this.#current;
    if (live === null || live.ended) return;
    this.#pulse.feel(live, nowMs);
    if (live.ended) {
      this.#again = true;
      return;
    }
    this.#renewToken(live, nowMs);
    this.#mend(live, nowMs);
    this.#sender.send(live, nowMs);
  }

  #schedule(): void {
    this.#takeBackTimer();
    this.#takeBackTimer = () => {};
    if (this.end !== null) return;
    this.#dueMs = this.#nextDueMs();
    if (this.#dueMs === null) return;
    const delayMs = Math.max(0, this.#dueMs - this.#clock.nowMs());
    this.#takeBackTimer = this.#clock.after(delayMs, () => this.#tend());
  }

  #nextDueMs(): number | null {
    const live = this.#current;
    if (live === null || live.ended) return this.#opening === null ? this.#retryAtMs : null;
    const due: number[] = [];
    if (live.channel.kind === "websocket") due.push(live.heartbeats.nextMs);
    if (live.mustSpeak) due.push(live.silence.nextMs);
    if (live.refreshAtMs !== null) due.push(live.refreshAtMs);
    if (live.slot !== null && this.#opening === null) due.push(live.slot.nextMs(this.#successor !== null));
    if (live.checker.broken && live.mendAskedMs !== null) due.push(live.mendAskedMs + SNAPSHOT_LIMIT_MS);
    if (live.sendAtMs !== null) due.push(live.sendAtMs);
    const next = Math.min(...due);
    return Number.isFinite(next) ? next : null;
  }

  #onSlept(nowMs: number): void {
    this.#dueMs = null;
    const live = this.#current;
    if (live !== null && !live.ended && live.channel.kind === "sse" && live.slot?.cause !== "pod_terminating") {
      // It cannot be asked whether it is still there: a new one takes its place.
      live.slot = this.#slotNow(nowMs, "lost");
    }
    this.check();
  }

  #slotNow(nowMs: number, cause: Slot["cause"], fresh = false): Slot {
    const deadlineMs = nowMs + REFRESH_DEADLINE_MS;
    return new Slot({ cause, opensAtMs: nowMs, deadlineMs, transport: "sse", fresh });
  }

  /** Follow the ends of channels, and the slot that there is for a new one. */
  #move(nowMs: number): void {
    const live = this.#current;
    if (live === null) return;
    if (this.#successor?.ended) {
      this.#successor = null;
      live.slot?.postpone(nowMs + this.#tries.pauseMs());
    }
    if (this.#opening !== null) return; // its end comes within a limit, and is told
    if (live.ended) {
      if (this.#successor === null) this.#lost(live);
      else this.#switch(this.#successor);
    } else if (live.slot !== null) this.#followSlot(live, live.slot, nowMs);
  }

  #followSlot(live: LiveChannel, slot: Slot, nowMs: number): void {
    const successor = this.#successor;
    const delivers = successor !== null && !successor.simulatorRuns;
    const step = slot.step(nowMs, { opened: successor !== null, delivers });
    if (step === "open") this.#openBeside(live, slot, nowMs);
    else if (step === "switch" && successor !== null) this.#switch(successor);
    else if (step === "give-up") {
      this.#leave(live);
      live.ended = true;
      live.endedAtMs = nowMs;
      this.#lost(live);
    }
  }

  #openBeside(live: LiveChannel, slot: Slot, nowMs: number): void {
    const { url, waitMs } = this.#tries.next(nowMs);
    if (waitMs > 0) {
      slot.postpone(nowMs + waitMs);
      return;
    }
    const limitMs = Math.min(this.#parts.timing.openTimeoutMs, Math.max(MIN_OPEN_LIMIT_MS, slot.deadlineMs - nowMs));
    const stated = slot.fresh ? null : this.#parts.view.position;
    this.#open({ url, kind: slot.transport ?? live.channel.kind, stated, cause: slot.cause, limitMs }, slot);
  }

  /** Leave the old connection: the new one is the present one from now on. */
  #switch(successor: LiveChannel): void {
    const old = this.#current;
    this.#successor = null;
    if (old !== null) {
      if (old.slot !== null) this.#counters.moves += 1;
      if (old.ended) {
        if (old.endedAtMs < successor.openedAtMs) this.#lostAtMs = old.endedAtMs;
        this.#countClose(old);
        old.superseded = true;
      } else this.#leave(old);
    }
    this.#tries.succeeded();
    this.#take(successor);
    this.#again = true;
  }

  /** What is still answered on it is heard, until its close is. */
  #leave(live: LiveChannel): void {
    live.superseded = true;
    live.channel.leave();
  }

  /** The present connection is over, and there is no other. */
  #lost(live: LiveChannel): void {
    this.#current = null;
    this.#lostAtMs = live.endedAtMs;
    if (live.endedAtMs - live.openedAtMs >= STABLE_MS) this.#tries.succeeded();
    if (!live.superseded) this.#countClose(live);
    const { closeCode, url, endCode, endReason } = live;
    const superseded = live.superseded || live.attempt < this.#parts.identity.attempt;
    const decision = afterClose({ closeCode, code: endCode, reason: endReason, superseded });
    const reason = endReason || (closeCode === null ? "connection lost" : `closed with ${closeCode}`);
    this.#plan({ url, reason, closeCode, decision });
  }

  #countClose(live: LiveChannel): void {
    const { closeCodes } = this.#counters;
    const code = live.closeCode ?? ABNORMAL_CLOSURE;
    closeCodes[code] = (closeCodes[code] ?? 0) + 1;
  }

  #renewToken(live: LiveChannel, nowMs: number): void {
    if (live.refreshAtMs === null || nowMs < live.refreshAtMs) return;
    live.refreshAtMs = null;
    const again = (token: string): void => {
      live.refreshAtMs = this.#clock.nowMs() + refreshAgainInMs(token, this.#parts.tokens.unixMs());
      this.#tend();
    };
    this.#parts.tokens.get("refresh").then(
      (token) => {
        if (live.ended || live.superseded || this.end !== null) return;
        if (token === live.token) again(token);
        else this.#handOver(live, token);
      },
      () => again(live.token), // the page's own code: whatever it throws, it is asked again before the end
    );
  }

  #handOver(live: LiveChannel, token: string): void {
    const nowMs = this.#clock.nowMs();
    live.token = token;
    const refreshMs = refreshInMs(token, this.#parts.tokens.unixMs());
    live.refreshAtMs = refreshMs === null ? null : nowMs + refreshMs;
    if (live.channel.kind === "websocket") this.#send(live, { type: "authenticate", token });
    else if (live.slot === null || live.slot.cause === "transport") live.slot = this.#slotNow(nowMs, "token");
    this.#tend();
  }

  /** Ask for a snapshot after a violation of the sequence rule; again, where none comes. */
  #mend(live: LiveChannel, nowMs: number): void {
    if (!live.checker.broken) {
      live.mendAskedMs = null;
      return;
    }
    if (live.mendAskedMs !== null && nowMs < live.mendAskedMs + SNAPSHOT_LIMIT_MS) return;
    live.mendAskedMs = nowMs;
    this.#askForSnapshot(live);
  }

  #askForSnapshot(live: LiveChannel): void {
    if (live.channel.kind === "websocket") this.#send(live, { type: "request_full_refresh", requestId: newId() });
    else if (live.slot === null || live.slot.cause === "transport")
      live.slot = this.#slotNow(this.#clock.nowMs(), "refresh", true);
    this.#again = true;
  }

  #send(live: LiveChannel, message: ClientMessage): void {
    const text = JSON.stringify(message);
    this.#counters.sentBytes += text.length;
    live.rate.sent(this.#clock.nowMs());
    try {
      live.channel.send(text);
    } catch {
      return; // on a socket that is over nothing happens: its end is told
    }
  }

  // --- reading -----------------------------------------------------------------------------------------------

  #onEnded(live: LiveChannel, end: ChannelEnd): void {
    if (live.ended) return;
    live.end(this.#clock.nowMs(), end);
    this.#tend();
  }

  #onText(live: LiveChannel, text: string): void {
    if (this.end !== null) return;
    this.#counters.receivedBytes += text.length;
    const nowMs = this.#clock.nowMs();
    live.lastHeardMs = nowMs;
    const frame = readFrame(text);
    if (frame !== null) this.#onFrame(live, frame, nowMs);
    // The timers of a hidden page come late; what is due is done as frames come, too.
    if (this.#again || (this.#dueMs !== null && nowMs >= this.#dueMs)) this.#tend();
  }

  /** Frames of a superseded channel count for nothing, but for answers to commands that it was given. */
  #onFrame(live: LiveChannel, frame: ServerFrame | UnreadableFrame, nowMs: number): void {
    switch (frame.type) {
      case "exchange_data":
        if (!live.superseded) this.#onExchangeData(live, exchangeData(frame), nowMs);
        return;
      case "session_info":
      case "result":
      case "reconnect_result":
        this.#parts.commands.answered(frame);
        return;
      case "error":
        if (this.#parts.commands.answered(frame) || live.superseded) return;
        this.#teller.tell("onError", { code: frame.errorCode, message: frame.message });
        return;
    }
    if (live.superseded) return;
    switch (frame.type) {
      case "heartbeat_ack":
        this.#onHeartbeatAck(live, frame, nowMs);
        return;
      case "simulator_status":
        this.#onSimulatorStatus(live, {
          simulatorId: frame.simulatorId,
          status: frame.status,
          reason: frame.reason ?? null,
          queuePosition: frame.queuePosition ?? null,
        });
        return;
      case "connection_quality_update":
        this.#pulse.judged(frame.quality, frame.reconnectRecommended, live === this.#current);
        return;
      case "pod_terminating":
        this.#onPodTerminating(live, frame, nowMs);
        return;
      case "session_ended":
        live.endCode = "SESSION_ENDED";
        live.endReason = frame.reason;
        return;
      case "connection_replaced":
        live.endCode = "CONNECTION_REPLACED";
        live.endReason = frame.reason;
        return;
      case "unreadable":
        this.#teller.tell("onError", {
          code: "INVALID_MESSAGE",
          message: frame.of === null ? "a frame that cannot be read" : `a frame ${frame.of} that cannot be read`,
        });
        return;
    }
  }

  #onExchangeData(live: LiveChannel, data: ExchangeData, nowMs: number): void {
    if (!this.#follower.mayApply(live.checker, data)) {
      this.#again = true;
      return;
    }
    if (live === this.#successor) this.#switch(live);
    if (this.end !== null) return; // a listener may have closed it
    const applied = this.#follower.apply(data, nowMs);
    if (data.snapshot) live.snapshotMissed = !applied;
    else if (live.snapshotMissed) this.#askAgain(live, data);
  }

  /**
   * Its snapshot was behind what another connection had brought. It would have changed no number, but only a snapshot
   * tells of another filter: another one is asked for once this connection has caught up.
   */
  #askAgain(live: LiveChannel, data: ExchangeData): void {
    if (this.end !== null || data.sequence < (this.#parts.view.position?.sequence ?? 0)) return;
    live.snapshotMissed = false;
    this.#askForSnapshot(live);
  }

  #onHeartbeatAck(live: LiveChannel, frame: HeartbeatAckFrame, nowMs: number): void {
    this.#pulse.answered(live, frame, nowMs, live === this.#current);
    if (frame.sessionStatus === "invalid" || !frame.deviceIdValid) {
      this.#finish(new ConnectionEndedError("SESSION_ENDED", "the session is not valid for this device any more"));
    }
  }

  #onPodTerminating(
    live: LiveChannel,
    frame: { readonly reconnectAfterMs: number; readonly deadlineMs: number; readonly reason: string },
    nowMs: number,
  ): void {
    const { reconnectAfterMs, deadlineMs, reason } = frame;
    live.slot = new Slot({
      cause: "pod_terminating",
      opensAtMs: nowMs + reconnectAfterMs,
      deadlineMs: nowMs + deadlineMs,
      transport: live.channel.kind,
    });
    this.#tries.leave(live.url);
    this.#again = true;
    if (live !== this.#current) return;
    const { podName } = live.frame;
    this.#teller.tell("onPodTerminating", { podName, reconnectAfterMs, deadlineMs, reason });
  }

  #onSimulatorStatus(live: LiveChannel, status: SimulatorStatus): void {
    live.simulatorRuns = status.status === "RUNNING";
    this.#again = true;
    if (!live.simulatorRuns) this.#follower.expectsNothing();
    if (live !== this.#current) return;
    this.simulator = status;
    this.#teller.tell("onSimulatorStatus", status);
  }

  /** As `connected` tells it, without an id. */
  #simulatorIs(status: SimulatorState): void {
    const known = this.simulator;
    if (known?.status === status) return;
    const simulatorId = status === "NONE" ? null : (known?.simulatorId ?? null);
    this.simulator = { simulatorId, status, reason: null, queuePosition: null };
    this.#teller.tell("onSimulatorStatus", this.simulator);
  }

  // --- the end -----------------------------------------------------------------------------------------------

  #tellStatus(status: ConnectionStatus): void {
    this.status = status;
    this.#teller.tell("onStatus", status);
  }

  #finish(end: ConnectionEndedError): void {
    if (this.end !== null) return;
    this.end = end;
    this.#takeBackTimer();
    this.#opening?.cancel();
    this.#opening = null;
    for (const live of [this.#current, this.#successor]) {
      if (live !== null && !live.ended) this.#leave(live);
    }
    this.#current = null;
    this.#successor = null;
    this.#parts.commands.failAll(end);
    this.#onEnd(end);
    this.#tellStatus({ state: "closed", reason: end.reason, closeCode: end.closeCode, retryInMs: null });
    if (end.code !== "CLIENT_CLOSED") this.#teller.tell("onEnd", end);
    this.#teller.end();
  }
}

function sameFilter(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((symbol, at) => symbol === other[at]);
}
