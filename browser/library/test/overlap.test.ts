/**
 * Random lives of a connection against an oracle: whatever is cut, moved, delayed, repeated or left out, what the
 * listener was given is each update once and in order, or a snapshot, and everything else was told.
 */

import { describe, expect, it } from "vitest";
import type { ExchangeData } from "../src/events.ts";
import { type FakeSocket, order } from "./support/fakeService.ts";
import { randomOf } from "./support/random.ts";
import { record } from "./support/recorded.ts";

/** The simulator: each update has an order update of its own, so that each loss and each repetition shows. */
class Simulator {
  epoch = 7;
  head = 10;

  frame(from: number): Parameters<FakeSocket["data"]> {
    const numbers = Array.from({ length: this.head - from + 1 }, (_, at) => from + at);
    const orders = numbers.map((number) => order(`${this.epoch}-${number}`, "NEW", number));
    return [{ epoch: this.epoch, fromSequence: from, sequence: this.head, snapshot: false }, orders];
  }

  snapshot(): Parameters<FakeSocket["data"]> {
    const numbers = Array.from({ length: this.head }, (_, at) => 1 + at);
    const orders = numbers.map((number) => order(`${this.epoch}-${number}`, "NEW", number));
    return [{ epoch: this.epoch, fromSequence: this.head, sequence: this.head, snapshot: true }, orders];
  }
}

/** What the service has told one socket: null, and only a snapshot may follow. */
interface Served {
  readonly socket: FakeSocket;
  at: number | null;
  epoch: number;
  terminating: boolean;
}

class Life {
  readonly #random: () => number;
  readonly #simulator = new Simulator();
  readonly #recorded;
  #served: Served[] = [];
  /** Frames in which the service itself broke the rule. */
  broken = 0;

  constructor(seed: number) {
    this.#random = randomOf(seed);
    this.#recorded = record({ platform: { random: this.#random } });
    this.#recorded.service.onSocket = (socket) => this.#accept(socket);
  }

  get data(): readonly ExchangeData[] {
    return this.#recorded.data;
  }

  async run(steps: number, faults: boolean): Promise<void> {
    await this.#recorded.clock.advance(0);
    for (let step = 0; step < steps; step += 1) {
      await this.#step(faults);
      await this.#recorded.clock.advance(this.#random() < 0.05 ? 3_000 : this.#random() * 120);
    }
    this.#recorded.service.onSocket = (socket) => this.#accept(socket, true);
    for (let step = 0; step < 40; step += 1) {
      this.#serve(1);
      this.#answer();
      await this.#recorded.clock.advance(500);
    }
  }

  /** What was told, and what the view has come to. */
  get connection() {
    return this.#recorded.connection;
  }

  get violations(): number {
    return this.#recorded.heard("onGap").length + this.#recorded.heard("onDuplicate").length;
  }

  get head(): { epoch: number; sequence: number } {
    return { epoch: this.#simulator.epoch, sequence: this.#simulator.head };
  }

  close(): void {
    this.#recorded.connection.close();
  }

  async #step(faults: boolean): Promise<void> {
    this.#simulator.head += Math.floor(this.#random() * 3);
    this.#serve(0.8);
    this.#answer();
    const chance = this.#random();
    const open = this.#served.filter((one) => !one.socket.over);
    const one = open[Math.floor(this.#random() * open.length)];
    if (chance < 0.06) one?.socket.closed([1006, 1012, 4008, 4009, 1000][Math.floor(this.#random() * 5)] ?? 1006);
    else if (chance < 0.1 && one !== undefined && !one.terminating) {
      one.terminating = true;
      const reconnectAfterMs = Math.floor(this.#random() * 500);
      one.socket.say({ type: "pod_terminating", reconnectAfterMs, deadlineMs: 4_000, reason: "SIGTERM" });
    } else if (chance < 0.12) {
      this.#simulator.epoch += 1;
      this.#simulator.head = 1 + Math.floor(this.#random() * 5);
      for (const served of this.#served) served.at = null;
    } else if (chance < 0.14) this.#recorded.clock.sleep(60_000);
    else if (chance < 0.16) this.#recorded.signal("online");
    else if (faults && chance < 0.22 && one?.at !== null && one !== undefined) this.#breakRule(one);
  }

  /** A frame is left out, or comes again. */
  #breakRule(one: Served): void {
    if (one.at === null) return;
    this.broken += 1;
    if (this.#random() < 0.5) {
      this.#simulator.head += 2;
      one.socket.data(...this.#simulator.frame(one.at + 2));
      one.at = this.#simulator.head;
    } else if (one.at > 3) one.socket.data(...this.#simulator.frame(one.at - 2));
    else this.broken -= 1;
  }

  #accept(socket: FakeSocket, surely = false): void {
    if (!surely && this.#random() < 0.2) {
      socket.closed(1006);
      return;
    }
    const { epoch, sequence } = socket.query;
    const stated = sequence === undefined ? null : Number(sequence);
    const resumed = Number(epoch) === this.#simulator.epoch && stated !== null && stated <= this.#simulator.head;
    const known = surely || this.#random() < 0.9;
    socket.connected(resumed && known ? { resumed, epoch: Number(epoch), sequence: stated } : {});
    const at = resumed && known ? stated : null;
    this.#served.push({ socket, at, epoch: this.#simulator.epoch, terminating: false });
  }

  #serve(chance: number): void {
    for (const one of this.#served) {
      if (one.socket.over || this.#random() >= chance) continue;
      if (one.at === null || one.epoch !== this.#simulator.epoch) one.socket.data(...this.#simulator.snapshot());
      else if (one.at < this.#simulator.head) one.socket.data(...this.#simulator.frame(one.at + 1));
      one.at = this.#simulator.head;
      one.epoch = this.#simulator.epoch;
    }
  }

  /** Closes, heartbeats and refreshes get their answers, as a service gives them. */
  #answer(): void {
    for (const one of this.#served) {
      const { socket } = one;
      if (socket.closedWith !== null) socket.closed(socket.closedWith ?? 1005);
      for (const message of socket.sent.splice(0)) {
        if (message.type === "request_full_refresh") one.at = null;
        if (message.type !== "heartbeat") continue;
        socket.heartbeatAck(message);
      }
    }
  }
}

/** The rule of docs/exchange-data.md over everything that the listener was given, whichever socket it came from. */
function checkOracle(data: readonly ExchangeData[]): { applied: number } {
  let epoch = -1;
  let sequence = -1;
  let applied = 0;
  const orders = new Set<string>();
  for (const one of data) {
    if (one.snapshot) {
      expect(one.fromSequence).toBe(one.sequence);
      if (one.epoch === epoch) expect(one.sequence).toBeGreaterThanOrEqual(sequence);
    } else {
      expect([one.epoch, one.fromSequence]).toEqual([epoch, sequence + 1]);
      expect(one.orderUpdates.map((update) => update.sequence)).toEqual(
        Array.from({ length: one.sequence - one.fromSequence + 1 }, (_, at) => one.fromSequence + at),
      );
      for (const update of one.orderUpdates) {
        expect(orders.has(update.orderId)).toBe(false);
        orders.add(update.orderId);
      }
      applied += one.sequence - one.fromSequence + 1;
    }
    ({ epoch, sequence } = one);
  }
  return { applied };
}

const SEEDS = Array.from({ length: 60 }, (_, seed) => seed + 1);

describe("a random life", () => {
  it.each(SEEDS)("%d: nothing is lost or repeated where the service keeps its rule", async (seed) => {
    const life = new Life(seed);
    await life.run(150, false);
    const { applied } = checkOracle(life.data);
    const { statistics, position, view, end } = life.connection;
    expect(end).toBeNull();
    expect(life.violations).toBe(0);
    expect(statistics).toMatchObject({ gaps: 0, duplicates: 0, updates: applied });
    expect(position).toEqual(life.head);
    expect([...view.orders.keys()].filter((id) => id.startsWith(`${life.head.epoch}-`))).toHaveLength(
      life.head.sequence,
    );
    expect(statistics.connections).toBeGreaterThan(1);
    life.close();
  });

  it.each(SEEDS)("%d: a rule that is broken is told, and mended", async (seed) => {
    const life = new Life(seed);
    await life.run(150, true);
    checkOracle(life.data);
    const { statistics, position } = life.connection;
    expect(statistics.gaps + statistics.duplicates).toBe(life.violations);
    if (life.broken > 3) expect(life.violations).toBeGreaterThan(0);
    expect(position).toEqual(life.head);
    life.close();
  });
});
