/** The service's side of every socket, moved by hand: what a test says is what comes. */

import type { ExchangeData, OrderUpdate } from "../../src/events.ts";
import type { ServerFrame } from "../../src/frames.ts";
import type { SocketFactory, SocketListener } from "../../src/platform.ts";

/** A frame as a test writes it: the timestamp is added. */
type Unstamped<Frame> = Frame extends ServerFrame ? Omit<Frame, "timestamp"> : never;
export type Said = Unstamped<ServerFrame>;

const TIMESTAMP = 1_795_168_839_725;

export class FakeSocket {
  readonly url: URL;
  readonly protocols: readonly string[];
  readonly sent: Record<string, unknown>[] = [];
  readonly #listener: SocketListener;
  readonly #unixMs: () => number;
  bufferedAmount = 0;
  /** The code that the client closed with; undefined: none, null: it did not close. */
  closedWith: number | undefined | null = null;
  over = false;

  constructor(url: string, protocols: readonly string[], listener: SocketListener, unixMs: () => number) {
    this.#unixMs = unixMs;
    this.url = new URL(url);
    this.protocols = protocols;
    this.#listener = listener;
  }

  get query(): Record<string, string> {
    return Object.fromEntries(this.url.searchParams);
  }

  get attempt(): number {
    return Number(this.query.attempt);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  /** The client closes: the answer comes when the test says so, by `closed`. */
  close(code?: number): void {
    this.closedWith = code;
  }

  say(frame: Said): void {
    this.text(JSON.stringify({ ...frame, timestamp: this.#unixMs() }));
  }

  text(text: string): void {
    if (!this.over) this.#listener.message(text);
  }

  binary(): void {
    this.#listener.message(new ArrayBuffer(2));
  }

  /** The end, as a browser tells it. */
  closed(code: number, reason = ""): void {
    if (this.over) return;
    this.over = true;
    this.#listener.closed(code, reason);
  }

  connected(fields: Partial<Extract<Said, { type: "connected" }>> = {}): void {
    this.say({
      type: "connected",
      clientId: this.query.clientId ?? "made",
      deviceId: this.query.deviceId ?? "",
      sessionId: "session-1",
      isNew: false,
      podName: `pod-${this.url.port}`,
      epoch: null,
      sequence: null,
      resumed: false,
      simulatorStatus: "RUNNING",
      heartbeatIntervalMs: 10_000,
      expiresAt: "2026-11-20T11:00:00Z",
      limits: { maxMessageBytes: 65_536, messagesPerSecond: 20, messageBurst: 40, connectionsPerSession: 8 },
      ...fields,
    });
  }

  /** The answer to a heartbeat, `beat`. */
  heartbeatAck(
    beat: { readonly timestamp?: unknown },
    fields: Partial<Extract<Said, { type: "heartbeat_ack" }>> = {},
  ): void {
    this.say({
      type: "heartbeat_ack",
      clientTimestamp: Number(beat.timestamp),
      deviceId: "laptop",
      deviceIdValid: true,
      sessionStatus: "valid",
      simulatorStatus: "RUNNING",
      connectionQuality: "GOOD",
      reconnectRecommended: false,
      ...fields,
    });
  }

  data(
    range: Pick<ExchangeData, "epoch" | "fromSequence" | "sequence" | "snapshot">,
    orders: OrderUpdate[] = [],
  ): void {
    this.say(dataFrame(range, orders));
  }

  update(epoch: number, sequence: number): void {
    this.data({ epoch, fromSequence: sequence, sequence, snapshot: false });
  }

  snapshot(epoch: number, sequence: number): void {
    this.data({ epoch, fromSequence: sequence, sequence, snapshot: true });
  }

  /** What of a type the client sent. */
  messages(type: string): Record<string, unknown>[] {
    return this.sent.filter((message) => message.type === type);
  }
}

export class FakeService {
  readonly sockets: FakeSocket[] = [];
  /** What becomes of each new socket, a turn later; nothing where it is not given. */
  onSocket: ((socket: FakeSocket) => void) | null = null;
  readonly #unixMs: () => number;

  /** `unixMs`: the service's own clock. */
  constructor(unixMs: () => number) {
    this.#unixMs = unixMs;
  }

  readonly open: SocketFactory = (url, protocols, listener) => {
    const socket = new FakeSocket(url, protocols, listener, this.#unixMs);
    this.sockets.push(socket);
    queueMicrotask(() => this.onSocket?.(socket));
    return socket;
  };

  get last(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (socket === undefined) throw new Error("no socket was opened");
    return socket;
  }
}

export function dataFrame(
  range: Pick<ExchangeData, "epoch" | "fromSequence" | "sequence" | "snapshot">,
  orderUpdates: OrderUpdate[] = [],
): Extract<Said, { type: "exchange_data" }> {
  const price = range.sequence / 100;
  const quote = { symbol: "AAPL", bid: price, ask: price, bidSize: 1, askSize: 1, lastPrice: price, lastSize: 1 };
  const { epoch, fromSequence, sequence, snapshot } = range;
  return {
    type: "exchange_data",
    epoch,
    fromSequence,
    sequence,
    snapshot,
    data: { timestamp: TIMESTAMP, marketData: [quote], orderUpdates, portfolio: null },
  };
}

export function order(orderId: string, status: string, sequence: number): OrderUpdate {
  return { orderId, symbol: "AAPL", status, filledQuantity: 0, averagePrice: 0, sequence };
}
