import { describe, expect, it } from "vitest";
import type { ConnectOptions } from "../src/options.ts";
import { FakeHttp, type FakeStream } from "./support/fakeHttp.ts";
import { dataFrame } from "./support/fakeService.ts";
import { type Recorded, record } from "./support/recorded.ts";

const SESSION = {
  success: true,
  sessionId: "session-1",
  isNew: true,
  status: "ACTIVE",
  expiresAt: "x",
  podName: "pod-1",
};
const FOUND = {
  session_id: "session-1",
  user_id: "u",
  status: "ACTIVE",
  device_id: "laptop",
  created_at: "a",
  last_active: "b",
  expires_at: "c",
};

function overHttp(options: Partial<ConnectOptions> = {}): Recorded & { readonly http: FakeHttp } {
  const http = new FakeHttp();
  http.answer = ({ method }) => ({ body: method === "POST" ? SESSION : { success: true, session: FOUND } });
  const recorded = record({
    url: "http://127.0.0.1:1",
    transport: "sse",
    ...options,
    platform: { fetch: http.fetch },
  });
  return { ...recorded, http };
}

function data(stream: FakeStream, epoch: number, sequence: number, snapshot = false): void {
  stream.say(dataFrame({ epoch, fromSequence: sequence, sequence, snapshot }));
}

describe("an event stream", () => {
  it("is opened with the token in a header, and resumed by its position", async () => {
    const { http, clock, data: told, heard } = overHttp({ symbols: ["AAPL"] });
    await turns(clock);
    expect(http.asked[0]).toMatchObject({ method: "POST", body: { deviceId: "laptop" } });
    expect(http.last.asked.url.pathname).toBe("/api/sessions/session-1/events");
    expect(http.last.asked.headers).toMatchObject({ Authorization: "Bearer token", Accept: "text/event-stream" });
    expect(http.last.query).toEqual({ deviceId: "laptop", clientId: "tab-1", attempt: "0", symbols: "AAPL" });
    http.last.connected();
    data(http.last, 7, 10, true);
    data(http.last, 7, 11);
    await turns(clock);
    http.last.end();
    await turns(clock);
    await clock.advance(125);
    await turns(clock);
    expect(http.last.asked.headers).toMatchObject({ "Last-Event-ID": "7:11" });
    expect(http.last.query.attempt).toBe("1");
    http.last.connected({ resumed: true, epoch: 7, sequence: 11 });
    data(http.last, 7, 12);
    await turns(clock);
    expect(told.map((one) => one.sequence)).toEqual([10, 11, 12]);
    expect(heard("onReconnected")).toMatchObject([{ transport: "sse", resumed: true, cause: "lost" }]);
    expect(heard("onGap")).toEqual([]);
  });

  it("is given up where not even a comment comes", async () => {
    const { http, clock } = overHttp();
    await turns(clock);
    http.last.connected({ simulatorStatus: "NONE" });
    for (let round = 0; round < 4; round += 1) {
      await turns(clock);
      await clock.advance(15_000);
      http.last.text(": keep-alive\n\n");
    }
    await turns(clock);
    expect(http.streams).toHaveLength(1);
    await clock.advance(20_000 + 125);
    await turns(clock);
    expect(http.streams).toHaveLength(2);
    expect(http.streams[0]?.left).toBe(true);
  });

  it("waits for as long as the service says", async () => {
    const { http, clock, heard } = overHttp();
    const overloaded = { code: "OVERLOADED", error: "too many" };
    http.answerStream = () => ({ status: 503, headers: { "Retry-After": "4" }, body: overloaded });
    await turns(clock);
    expect(heard("onStatus").at(-1)?.retryInMs).toBe(6_000);
    http.answerStream = () => "stream";
    await clock.advance(5_999);
    await turns(clock);
    expect(http.streams).toHaveLength(0);
    await clock.advance(1);
    await turns(clock);
    expect(http.streams).toHaveLength(1);
  });

  it.each([
    [401, "AUTHENTICATION_FAILED"],
    [404, "SESSION_NOT_FOUND"],
    [409, "CONNECTION_REPLACED"],
    [410, "SESSION_EXPIRED"],
  ])("is over for good after %d", async (status, code) => {
    const { http, clock, heard } = overHttp();
    http.answerStream = () => ({ status, body: { code, error: "in words" } });
    await turns(clock);
    await clock.advance(60_000);
    expect(heard("onEnd")).toMatchObject([{ code, reason: "in words" }]);
    expect(http.asked.filter(({ url }) => url.pathname.endsWith("/events"))).toHaveLength(1);
  });

  it("is over for good when its session is", async () => {
    const { http, clock, heard } = overHttp();
    await turns(clock);
    http.last.connected();
    http.last.say({ type: "session_ended", reason: "ended" });
    http.last.end();
    await turns(clock);
    expect(heard("onEnd")).toMatchObject([{ code: "SESSION_ENDED", reason: "ended" }]);
  });

  it("has its commands carried out by REST", async () => {
    const { http, clock, connection } = overHttp();
    const simulator = {
      simulatorId: "s/1",
      sessionId: "session-1",
      status: "RUNNING",
      reason: null,
      createdAt: "",
      lastActive: "",
      initialSymbols: [],
      initialCash: 1,
      uptimeSeconds: 1,
    };
    const order = { success: true, orderId: "o", status: "FILLED", filledQuantity: 3, averagePrice: 2.5 };
    await turns(clock);
    http.last.connected();
    await turns(clock);
    http.answer = ({ method }) => ({ body: method === "GET" ? { success: true, simulator } : order });
    const placed = connection.submitOrder({ symbol: "A", side: "BUY", quantity: 3 }, { requestId: "r1" });
    await turns(clock);
    expect(await placed).toMatchObject({ orderId: "o", filledQuantity: 3 });
    expect(http.asked.at(-1)).toMatchObject({
      method: "POST",
      body: { symbol: "A", side: "BUY", quantity: 3, orderType: "MARKET", requestId: "r1" },
    });
    expect(http.asked.at(-1)?.url.pathname).toBe("/api/simulators/s%2F1/orders");
    http.answer = () => ({ status: 409, body: { code: "ORDER_NOT_CANCELABLE", error: "final" } });
    await expect(connection.cancelOrder("o")).rejects.toMatchObject({ code: "ORDER_NOT_CANCELABLE" });
  });

  it("is opened anew, beside the old one, for a snapshot or another filter", async () => {
    const { http, clock, connection, data: told } = overHttp();
    await turns(clock);
    const old = http.last;
    old.connected();
    data(old, 7, 10, true);
    await turns(clock);
    const subscribed = connection.subscribe(["MSFT"]);
    await turns(clock);
    expect(http.last.query).toMatchObject({ symbols: "MSFT", attempt: "1" });
    expect(http.last.asked.headers).not.toHaveProperty("Last-Event-ID");
    data(old, 7, 11);
    http.last.connected();
    data(http.last, 7, 12, true);
    await turns(clock);
    await subscribed;
    expect(old.left).toBe(true);
    expect(told.map((one) => [one.sequence, one.snapshot])).toEqual([
      [10, true],
      [11, false],
      [12, true],
    ]);
  });
});

describe("where WebSockets do not get through", () => {
  it("falls back after three failures, and comes back when they do", async () => {
    const { http, clock, service, heard, connection } = overHttp({ transport: "auto" });
    service.onSocket = (socket) => socket.closed(1006);
    for (let step = 0; step < 20 && http.streams.length === 0; step += 1) {
      await turns(clock);
      await clock.advance(500);
    }
    expect(service.sockets).toHaveLength(3);
    http.last.connected();
    data(http.last, 7, 10, true);
    await turns(clock);
    expect(connection.transport).toBe("sse");
    service.onSocket = null;
    for (let second = 1; second <= 61; second += 1) {
      await clock.advance(1_000);
      data(http.last, 7, 10 + second);
      await turns(clock);
    }
    expect(service.sockets).toHaveLength(4);
    const { sequence } = service.last.query;
    service.last.connected({ resumed: true, epoch: 7, sequence: Number(sequence) });
    expect(http.last.left).toBe(false);
    service.last.update(7, Number(sequence) + 1);
    expect(http.last.left).toBe(true);
    expect(connection.transport).toBe("websocket");
    expect(heard("onReconnected")).toMatchObject([{ cause: "transport", pauseMs: 0, transport: "websocket" }]);
    expect(heard("onGap")).toEqual([]);
  });

  it("keeps to WebSockets where there is no network at all", async () => {
    const { http, clock, service } = overHttp({ transport: "auto" });
    http.answer = () => null;
    service.onSocket = (socket) => socket.closed(1006);
    for (let second = 0; second < 60; second += 1) {
      await clock.advance(1_000);
      await turns(clock);
    }
    expect(http.asked.filter(({ url }) => url.pathname.endsWith("/events"))).toEqual([]);
    expect(service.sockets.length).toBeGreaterThan(5);
  });

  it("ends where REST says why, since a browser shows nothing of a refused upgrade", async () => {
    const { http, clock, service, heard } = overHttp({ transport: "auto" });
    http.answer = () => ({ status: 409, body: { code: "SESSION_LIMIT_REACHED", error: "Too many sessions" } });
    service.onSocket = (socket) => socket.closed(1006);
    for (let second = 0; second < 5; second += 1) {
      await clock.advance(1_000);
      await turns(clock);
    }
    expect(heard("onEnd")).toMatchObject([{ code: "SESSION_LIMIT_REACHED", reason: "Too many sessions" }]);
    expect(service.sockets).toHaveLength(2);
  });

  it("goes back to WebSockets where it was the service itself that refused", async () => {
    const { http, clock, service } = overHttp({ transport: "auto" });
    http.answerStream = () => ({
      status: 503,
      headers: { "Retry-After": "1" },
      body: { code: "OVERLOADED", error: "" },
    });
    service.onSocket = (socket) => socket.closed(1006);
    for (let step = 0; step < 40 && service.sockets.length < 4; step += 1) {
      await clock.advance(500);
      await turns(clock);
    }
    expect(service.sockets).toHaveLength(4);
    expect(http.asked.filter(({ url }) => url.pathname.endsWith("/events"))).toHaveLength(1);
  });
});

/** Streams go through the platform's own queues: a few turns of the real loop, and no time of the fake one. */
async function turns(clock: Recorded["clock"]): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) {
    await clock.advance(0);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
