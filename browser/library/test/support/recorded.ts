/** A connection under a fake clock and a fake service, with everything that it told. */

import { connect } from "../../src/connect.ts";
import type { Connection } from "../../src/connection.ts";
import type { ExchangeData } from "../../src/events.ts";
import type { ConnectOptions, Listeners } from "../../src/options.ts";
import type { PageSignal } from "../../src/platform.ts";
import { FakeClock, settle } from "./fakeClock.ts";
import { FakeService, type FakeSocket } from "./fakeService.ts";

export interface Told {
  readonly name: keyof Listeners;
  readonly value: unknown;
}

export interface Recorded {
  readonly connection: Connection;
  readonly clock: FakeClock;
  readonly service: FakeService;
  readonly told: Told[];
  readonly data: ExchangeData[];
  readonly tokensAskedFor: string[];
  /** What the listener of this name was given. */
  heard<Name extends keyof Listeners>(name: Name): Parameters<NonNullable<Listeners[Name]>>[0][];
  signal(signal: PageSignal): void;
  /** The first connection, up to its first snapshot at (epoch 7, sequence 10). */
  begin(): Promise<FakeSocket>;
}

const NAMES = [
  "onStatus",
  "onSimulatorStatus",
  "onSessionInfo",
  "onGap",
  "onDuplicate",
  "onReconnected",
  "onQuality",
  "onPodTerminating",
  "onEnd",
  "onError",
] as const satisfies readonly (keyof Listeners)[];

/** `aheadMs`: how far the page's clock is ahead of the service's. */
export function record(options: Partial<ConnectOptions> = {}, { aheadMs = 0 } = {}): Recorded {
  const clock = new FakeClock();
  const service = new FakeService(() => clock.unixMs() - aheadMs);
  const told: Told[] = [];
  const data: ExchangeData[] = [];
  const tokensAskedFor: string[] = [];
  let signal: (signal: PageSignal) => void = () => {};
  const listeners = Object.fromEntries(
    NAMES.map((name) => [
      name,
      (value: unknown) => {
        told.push({ name, value });
      },
    ]),
  );
  const connection = connect({
    url: ["http://127.0.0.1:1", "http://127.0.0.1:2"],
    deviceId: "laptop",
    clientId: "tab-1",
    transport: "websocket",
    getToken: (why) => {
      tokensAskedFor.push(why);
      return "token";
    },
    onExchangeData: (update) => {
      data.push(update);
    },
    ...listeners,
    ...options,
    platform: {
      clock,
      socket: service.open,
      fetch: null,
      random: () => 0.5,
      pageSignals: (listener) => {
        signal = listener;
        return () => {
          signal = () => {};
        };
      },
      ...options.platform,
    },
  });
  return {
    connection,
    clock,
    service,
    told,
    data,
    tokensAskedFor,
    heard: (name) => told.filter((one) => one.name === name).map((one) => one.value as never),
    signal: (one) => signal(one),
    async begin() {
      await clock.advance(0);
      const socket = service.last;
      socket.connected();
      socket.snapshot(7, 10);
      await settle();
      return socket;
    },
  };
}

/** A JWT that says when it expires; nobody here looks at its signature. */
export function tokenUntil(unixMs: number, name = "a"): string {
  return `${name}.${btoa(JSON.stringify({ exp: unixMs / 1000 }))}.s`;
}
