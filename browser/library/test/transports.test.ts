/**
 * Random lives over sockets and event streams in turn, with filters that change meanwhile: each update is applied once
 * and in order whatever brought it, and in the end the view holds what the last filter lets through.
 */

import { describe, expect, it } from "vitest";
import type { ExchangeData, Position } from "../src/events.ts";
import { FakeHttp, type FakeStream } from "./support/fakeHttp.ts";
import { dataFrame, type FakeSocket, order, type Said } from "./support/fakeService.ts";
import { randomOf } from "./support/random.ts";
import { record, tokenUntil } from "./support/recorded.ts";

const SYMBOLS = ["AAPL", "MSFT", "TSLA"];
const TOKEN_LIVES_MS = 4_000;
const SESSION = { session_id: "session-1", user_id: "u", status: "ACTIVE", device_id: "laptop" };
const TIMES = { created_at: "a", last_active: "b", expires_at: "c" };

/** What one connection was told, up to `at`; null: only a snapshot may follow. */
interface Served {
  readonly stream: FakeStream | null;
  readonly socket: FakeSocket | null;
  symbols: readonly string[];
  at: number | null;
  over: boolean;
}

class Life {
  readonly #random: () => number;
  readonly #http = new FakeHttp();
  readonly #recorded: ReturnType<typeof record>;
  readonly #served: Served[] = [];
  readonly data: ExchangeData[] = [];
  #head = 10;
  #blocked = false;

  constructor(seed: number) {
    this.#random = randomOf(seed);
    this.#http.answer = () => ({ body: { success: true, session: { ...SESSION, ...TIMES } } });
    this.#recorded = record({
      url: "http://127.0.0.1:1",
      sessionId: "session-1",
      transport: "auto",
      getToken: () => tokenUntil(this.#recorded.clock.unixMs() + TOKEN_LIVES_MS, String(this.#random())),
      onExchangeData: (data) => this.data.push(data),
      platform: { fetch: this.#http.fetch, random: this.#random },
    });
    this.#http.unixMs = () => this.#recorded.clock.unixMs();
    this.#recorded.service.onSocket = (socket) => this.#acceptSocket(socket);
  }

  get connection() {
    return this.#recorded.connection;
  }

  get violations(): number {
    return this.#recorded.heard("onGap").length + this.#recorded.heard("onDuplicate").length;
  }

  get head(): number {
    return this.#head;
  }

  /** Filters change until the last one is asked for; then everything else goes on for a while, and comes to rest. */
  async run(last: readonly string[]): Promise<void> {
    for (let step = 0; step < 100; step += 1) await this.#live(true);
    const subscribed = this.connection.subscribe(last, { timeoutMs: 600_000 });
    for (let step = 0; step < 30; step += 1) await this.#live(false);
    for (let step = 0; step < 100; step += 1) await this.#goOn(1_000, 1);
    await subscribed;
  }

  async #live(filters: boolean): Promise<void> {
    this.#happen(filters);
    await this.#goOn(this.#random() < 0.05 ? 3_000 : this.#random() * 150, 0.8);
  }

  async #goOn(ms: number, chance: number): Promise<void> {
    this.#head += Math.floor(this.#random() * 3);
    this.#acceptStreams();
    this.#answer();
    for (const one of this.#served) if (this.#random() < chance) this.#serve(one);
    await turns();
    await this.#recorded.clock.advance(ms);
    await turns();
  }

  #happen(filters: boolean): void {
    const chance = this.#random();
    const open = this.#served.filter((one) => !one.over);
    const one = open[Math.floor(this.#random() * open.length)];
    if (chance < 0.03) this.#blocked = !this.#blocked;
    else if (chance < 0.08) {
      one?.socket?.closed(1006);
      if (one?.stream?.left === false) one.stream.end();
      if (one !== undefined) one.over = true;
    } else if (chance < 0.11 && one !== undefined)
      say(one, { type: "pod_terminating", reconnectAfterMs: 100, deadlineMs: 4_000, reason: "SIGTERM" });
    else if (filters && chance < 0.16) {
      const symbols = SYMBOLS.filter(() => this.#random() < 0.5);
      this.connection.subscribe(symbols).catch(() => {}); // it may be too late: the last one counts
    } else if (chance < 0.19) this.connection.requestFullRefresh().catch(() => {});
    else if (chance < 0.21) this.#recorded.clock.sleep(60_000);
    else if (chance < 0.23) this.connection.dropConnection();
  }

  #acceptSocket(socket: FakeSocket): void {
    if (this.#blocked || this.#random() < 0.1) {
      socket.closed(1006);
      return;
    }
    const { epoch, sequence, symbols } = socket.query;
    const stated = sequence === undefined ? null : { epoch: Number(epoch), sequence: Number(sequence) };
    const one = { socket, stream: null, symbols: symbols?.split(",") ?? [], at: null, over: false };
    this.#begin(one, stated, (fields) => socket.connected(fields));
  }

  #acceptStreams(): void {
    for (const stream of this.#http.streams.splice(0)) {
      if (stream.left) continue;
      const [epoch, sequence] = stream.asked.headers["Last-Event-ID"]?.split(":") ?? [];
      const stated = sequence === undefined ? null : { epoch: Number(epoch), sequence: Number(sequence) };
      const one = { socket: null, stream, symbols: stream.query.symbols?.split(",") ?? [], at: null, over: false };
      this.#begin(one, stated, (fields) => stream.connected(fields));
    }
  }

  #begin(
    one: Served,
    stated: Position | null,
    connected: (fields: { resumed?: boolean; epoch?: number; sequence?: number }) => void,
  ): void {
    const resumed = stated !== null && this.#random() < 0.8;
    connected(resumed ? { resumed, ...stated } : {});
    if (resumed) one.at = stated.sequence;
    this.#served.push(one);
  }

  /** Some pods are behind: they tell a part of what there is. */
  #serve(one: Served): void {
    if (one.over || one.stream?.left || one.socket?.over) return;
    const head = this.#head - (this.#random() < 0.2 ? Math.floor(this.#random() * 3) : 0);
    if (one.at !== null && head <= one.at) return;
    const from = one.at === null ? 1 : one.at + 1;
    const numbers = Array.from({ length: head - from + 1 }, (_, at) => from + at);
    const snapshot = one.at === null;
    const range = { epoch: 7, fromSequence: snapshot ? head : from, sequence: head, snapshot };
    const orders = numbers.map((number) => order(String(number), "NEW", number));
    const frame = dataFrame(range, orders);
    const quote = frame.data.marketData[0];
    const passing = SYMBOLS.filter((symbol) => one.symbols.length === 0 || one.symbols.includes(symbol));
    const marketData = quote === undefined ? [] : passing.map((symbol) => ({ ...quote, symbol }));
    say(one, { ...frame, data: { ...frame.data, marketData } });
    one.at = head;
  }

  #answer(): void {
    for (const one of this.#served) {
      const { socket } = one;
      if (socket === null || socket.over) continue;
      for (const message of socket.sent.splice(0)) this.#answerTo(one, socket, message);
      if (socket.closedWith !== null) socket.closed(socket.closedWith ?? 1005);
    }
  }

  #answerTo(one: Served, socket: FakeSocket, message: Record<string, unknown>): void {
    if (message.type === "subscribe") one.symbols = message.symbols as string[];
    if (message.type === "subscribe" || message.type === "request_full_refresh") {
      socket.say({ type: "result", requestId: String(message.requestId), success: true });
      one.at = null;
    }
    if (message.type !== "heartbeat") return;
    socket.heartbeatAck(message);
  }
}

function say({ socket, stream }: Served, frame: Said): void {
  if (socket !== null) socket.say(frame);
  else stream?.say(frame);
}

/** Streams go through the platform's own queues. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

describe("a random life over both transports", () => {
  it.each(Array.from({ length: 40 }, (_, seed) => seed + 1))("%d", async (seed) => {
    const life = new Life(seed);
    await life.run(["MSFT"]);
    const { statistics, position, view, end } = life.connection;
    expect(end).toBeNull();
    expect(life.violations).toBe(0);
    let sequence = -1;
    for (const one of life.data) {
      if (one.snapshot) expect(one.sequence).toBeGreaterThanOrEqual(sequence);
      else {
        expect(one.fromSequence).toBe(sequence + 1);
        const numbers = Array.from({ length: one.sequence - sequence }, (_, at) => sequence + 1 + at);
        expect(one.orderUpdates.map((update) => update.sequence)).toEqual(numbers);
      }
      sequence = one.sequence;
    }
    expect(life.head - (position?.sequence ?? 0)).toBeLessThan(10);
    expect(view.orders.size).toBe(position?.sequence);
    expect([...view.quotes.keys()]).toEqual(["MSFT"]);
    expect(statistics.connections).toBeGreaterThan(2);
    life.connection.close();
  });
});
