import { describe, expect, it } from "vitest";
import { CommandTimeoutError, ConnectionEndedError, ServiceError } from "../src/errors.ts";
import { START_UNIX_MS, settle } from "./support/fakeClock.ts";
import { order } from "./support/fakeService.ts";
import { record, tokenUntil } from "./support/recorded.ts";

describe("the first connection", () => {
  it("carries the token as a subprotocol, and says who it is", async () => {
    const { service, clock } = record({ symbols: ["AAPL", "MSFT"] });
    await clock.advance(0);
    const { url, protocols, query } = service.last;
    expect(url.href.split("?")[0]).toBe("ws://127.0.0.1:1/ws");
    expect(query).toEqual({ deviceId: "laptop", clientId: "tab-1", attempt: "0", symbols: "AAPL,MSFT" });
    expect(protocols).toEqual(["session.v1", "bearer.dG9rZW4"]);
    expect(url.href).not.toContain("token");
  });

  it("is told, and its data is in the view", async () => {
    const { connection, begin, heard, data } = record();
    await begin();
    expect(heard("onStatus").map((one) => one.state)).toEqual(["open"]);
    expect(heard("onReconnected")).toEqual([]);
    expect((await connection.opened).podName).toBe("pod-1");
    expect(connection.sessionId).toBe("session-1");
    expect(connection.position).toEqual({ epoch: 7, sequence: 10 });
    expect(connection.view.quotes.get("AAPL")?.bid).toBe(0.1);
    expect(data.map((one) => [one.fromSequence, one.sequence, one.snapshot])).toEqual([[10, 10, true]]);
  });

  it("is tried again with a higher attempt where it fails", async () => {
    const { service, clock, heard, connection } = record();
    await clock.advance(0);
    service.last.closed(1006);
    expect(heard("onStatus").at(-1)).toMatchObject({ state: "connecting", closeCode: null, retryInMs: 125 });
    await clock.advance(125);
    expect(service.sockets.map((socket) => [socket.url.port, socket.attempt])).toEqual([
      ["1", 0],
      ["2", 1],
    ]);
    service.last.connected();
    expect(connection.status.state).toBe("open");
    expect(connection.statistics).toMatchObject({ connections: 1, reconnects: 0, refused: 1 });
  });

  it("is given up where `connected` does not come in time", async () => {
    const { service, clock } = record();
    await clock.advance(4_999);
    expect(service.sockets).toHaveLength(1);
    await clock.advance(1 + 125);
    expect(service.sockets[0]?.closedWith).toBeUndefined();
    expect(service.sockets).toHaveLength(2);
  });

  it("waits for a token, and asks again where none comes", async () => {
    let asked = 0;
    const { service, clock } = record({
      getToken: () => {
        asked += 1;
        if (asked === 1) throw new Error("signed out");
        return asked === 2 ? new Promise<string>(() => {}) : "third";
      },
    });
    await clock.advance(125);
    expect([asked, service.sockets.length]).toEqual([2, 0]);
    await clock.advance(10_000 + 125);
    expect([asked, service.sockets.length]).toEqual([3, 1]);
  });

  it("asks once more for a token that has expired already", async () => {
    const why: string[] = [];
    const { service, clock } = record({
      getToken: (reason) => {
        why.push(reason);
        return reason === "expired" ? "fresh" : tokenUntil(1_000);
      },
    });
    await clock.advance(0);
    expect(why).toEqual(["connect", "expired"]);
    expect(service.last.protocols[1]).toBe("bearer.ZnJlc2g");
  });
});

describe("a page whose clock is wrong", () => {
  it.each([600_000, -600_000])("renews its token by the service's clock: %d ms ahead", async (aheadMs) => {
    const start = START_UNIX_MS - aheadMs;
    let asked = 0;
    const getToken = (): string => {
      asked += 1;
      return tokenUntil(start + asked * 300_000, String(asked));
    };
    const { service, clock, begin } = record({ getToken }, { aheadMs });
    const socket = await begin();
    const askedToOpen = asked;
    await clock.advance(1);
    for (let second = 1; second <= 200; second += 1) {
      socket.update(7, 10 + second);
      await clock.advance(1_000);
    }
    expect(service.sockets).toHaveLength(1);
    expect(asked).toBe(askedToOpen);
    for (let second = 201; second <= 800; second += 1) {
      socket.update(7, 10 + second);
      await clock.advance(1_000);
    }
    expect(asked - askedToOpen).toBeGreaterThan(0);
    expect(asked - askedToOpen).toBeLessThan(5);
    expect(socket.messages("authenticate")).toHaveLength(asked - askedToOpen);
  });
});

describe("coming back", () => {
  it("states its position and goes on without a gap", async () => {
    const { service, clock, begin, connection, data, heard } = record();
    const first = await begin();
    first.update(7, 11);
    await clock.advance(100);
    first.closed(1006);
    expect(heard("onStatus").at(-1)).toMatchObject({ state: "reconnecting", retryInMs: 125 });
    await clock.advance(125);
    expect(service.last.query).toMatchObject({ attempt: "1", epoch: "7", sequence: "11", sessionId: "session-1" });
    service.last.connected({ resumed: true, epoch: 7, sequence: 11 });
    service.last.update(7, 12);
    expect(data.map((one) => one.sequence)).toEqual([10, 11, 12]);
    expect(heard("onReconnected")).toMatchObject([
      { pauseMs: 125, resumed: true, podName: "pod-2", attempt: 1, cause: "lost", transport: "websocket" },
    ]);
    expect(connection.statistics).toMatchObject({ resumed: 1, reconnects: 1, gaps: 0, longestPauseMs: 225 });
  });

  it.each([1000, 1002, 1007, 1009, 1011, 1012, 1013, 4000, 4008, 4009, 4029, 4408, 4499])(
    "comes back after %d",
    async (code) => {
      const { service, clock, begin, connection } = record();
      (await begin()).closed(code);
      await clock.advance(15_000);
      expect(service.sockets.length).toBeGreaterThan(1);
      expect(connection.end).toBeNull();
      expect(connection.statistics.closeCodes).toEqual({ [code]: 1 });
    },
  );

  it.each([
    [4500, "PROTOCOL_ERROR"],
    [4501, "AUTHENTICATION_FAILED"],
    [4503, "SESSION_ENDED"],
    [4504, "CONNECTION_REPLACED"],
    [4506, "PROTOCOL_ERROR"],
    [4999, "PROTOCOL_ERROR"],
  ])("never comes back after %d, and says why", async (code, name) => {
    const { service, clock, begin, connection, heard } = record();
    (await begin()).closed(code);
    await clock.advance(600_000);
    expect(service.sockets).toHaveLength(1);
    expect(heard("onEnd")).toHaveLength(1);
    expect(heard("onEnd")[0]).toMatchObject({ code: name, closeCode: code });
    expect(heard("onEnd")[0]?.reason).not.toBe("");
    expect(await connection.ended).toBe(connection.end);
    expect(heard("onStatus").at(-1)?.state).toBe("closed");
    expect(clock.timers).toBe(0);
  });

  it("never comes back where the first connection is refused for good, and has the service's words", async () => {
    const { service, clock, connection, heard } = record();
    await clock.advance(0);
    service.last.say({ type: "error", errorCode: "SESSION_LIMIT_REACHED", message: "Too many sessions" });
    service.last.closed(4506);
    await clock.advance(600_000);
    expect(service.sockets).toHaveLength(1);
    expect(heard("onEnd")[0]).toMatchObject({
      code: "SESSION_LIMIT_REACHED",
      reason: "Too many sessions",
      closeCode: 4506,
    });
    await expect(connection.opened).rejects.toBe(connection.end);
  });

  it("takes `session_ended` for an end whatever the close code is", async () => {
    const { service, clock, begin, heard } = record();
    const socket = await begin();
    socket.say({ type: "session_ended", reason: "expired" });
    socket.closed(1006);
    await clock.advance(60_000);
    expect(service.sockets).toHaveLength(1);
    expect(heard("onEnd")[0]).toMatchObject({ code: "SESSION_ENDED", reason: "expired" });
  });

  it("waits longer and longer, at most the limit, and begins anew after a stable while", async () => {
    const { service, clock, begin, heard } = record({ url: "http://127.0.0.1:1", platform: { random: () => 0.999 } });
    (await begin()).closed(1006);
    const pauses: number[] = [];
    for (let round = 0; round < 8; round += 1) {
      const { retryInMs } = heard("onStatus").at(-1) ?? {};
      pauses.push(Math.round(retryInMs ?? 0));
      await clock.advance(retryInMs ?? 0);
      if (round < 7) service.last.closed(1006);
      await settle();
    }
    expect(pauses.slice(0, 3)).toEqual([250, 1499, 4493]);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(10_000);
    expect(pauses.at(-1)).toBeGreaterThan(9_000);
    service.last.connected({ resumed: true, epoch: 7, sequence: 10, simulatorStatus: "NONE" });
    await clock.advance(5_000);
    service.last.closed(1006);
    expect(heard("onStatus").at(-1)?.retryInMs).toBeLessThan(250);
  });
});

describe("a connection that is dead", () => {
  it("is asked after half the limit of silence, and given up after the whole", async () => {
    const { service, clock, begin } = record();
    const first = await begin();
    await clock.advance(2_499);
    expect(first.messages("heartbeat")).toHaveLength(0);
    await clock.advance(1);
    expect(first.messages("heartbeat")).toHaveLength(1);
    await clock.advance(2_499);
    expect(service.sockets).toHaveLength(1);
    await clock.advance(1 + 125);
    expect(service.sockets).toHaveLength(2);
    expect(first.closedWith).toBeUndefined();
  });

  it("is kept where the pod answers, though the simulator is silent", async () => {
    const { service, clock, begin } = record();
    const first = await begin();
    for (let round = 0; round < 10; round += 1) {
      await clock.advance(2_500);
      answerHeartbeats(first);
    }
    expect(service.sockets).toHaveLength(1);
  });

  it("is given up after three heartbeats without an answer, where no simulator runs", async () => {
    const { service, clock } = record();
    await clock.advance(0);
    service.last.connected({ simulatorStatus: "NONE" });
    await clock.advance(39_999);
    expect(service.sockets).toHaveLength(1);
    await clock.advance(1 + 125);
    expect(service.sockets).toHaveLength(2);
  });

  it("tells the round trip and the quality, and reports them to the service", async () => {
    const { service, clock, heard, connection } = record();
    await clock.advance(0);
    const socket = service.last;
    socket.connected({ simulatorStatus: "NONE" });
    await clock.advance(10_000);
    await clock.advance(40);
    answerHeartbeats(socket);
    expect(connection.statistics.roundTripMs).toBe(40);
    expect(heard("onQuality")).toEqual([{ quality: "GOOD", reconnectRecommended: false, roundTripMs: 40 }]);
    await clock.advance(9_960);
    expect(socket.messages("connection_quality")).toEqual([
      { type: "connection_quality", latencyMs: 40, missedHeartbeats: 0 },
    ]);
    socket.say({ type: "connection_quality_update", quality: "POOR", reconnectRecommended: true });
    expect(connection.quality).toBe("POOR");
  });

  it("ends where the service says that the session is not valid", async () => {
    const { service, clock, begin, heard } = record();
    const socket = await begin();
    await clock.advance(2_500);
    answerHeartbeats(socket, { sessionStatus: "invalid" });
    await clock.advance(60_000);
    expect(service.sockets).toHaveLength(1);
    expect(heard("onEnd")[0]).toMatchObject({ code: "SESSION_ENDED" });
  });
});

describe("the token", () => {
  it("is renewed on the open socket before it expires", async () => {
    const clockStart = record();
    const now = clockStart.clock.unixMs();
    const given = [tokenUntil(now + 600_000), tokenUntil(now + 1_200_000, "b")];
    const { service, clock } = record({ getToken: () => given.shift() ?? tokenUntil(now + 9_000_000, "c") });
    await clock.advance(0);
    const second = given[0];
    service.last.connected({ simulatorStatus: "NONE" });
    await keepAlive(clock, () => service.last, 539_000);
    expect(service.last.messages("authenticate")).toHaveLength(0);
    await keepAlive(clock, () => service.last, 2_000);
    expect(service.last.messages("authenticate")).toEqual([{ type: "authenticate", token: second }]);
    expect(service.sockets).toHaveLength(1);
  });

  it("is renewed when its user says so", async () => {
    let token = "one";
    const { connection, begin } = record({ getToken: () => token });
    const socket = await begin();
    token = "two";
    await connection.refreshToken();
    expect(socket.messages("authenticate")).toEqual([{ type: "authenticate", token: "two" }]);
  });
});

describe("moving at a pod's request", () => {
  it("opens the new socket in its slot first, and applies each update once", async () => {
    const { service, clock, begin, data, heard, connection } = record();
    const old = await begin();
    old.say({ type: "pod_terminating", reconnectAfterMs: 1_200, deadlineMs: 20_000, reason: "SIGTERM" });
    expect(heard("onPodTerminating")).toEqual([
      { podName: "pod-1", reconnectAfterMs: 1_200, deadlineMs: 20_000, reason: "SIGTERM" },
    ]);
    await clock.advance(1_199);
    expect(service.sockets).toHaveLength(1);
    await clock.advance(1);
    const fresh = service.last;
    expect(fresh.url.port).toBe("2");
    expect(fresh.query).toMatchObject({ attempt: "1", sequence: "10" });
    old.data({ epoch: 7, fromSequence: 11, sequence: 12, snapshot: false }, [
      order("o", "NEW", 11),
      order("o", "FILLED", 12),
    ]);
    fresh.connected({ resumed: true, epoch: 7, sequence: 10 });
    expect(old.closedWith).toBeNull();
    old.update(7, 13);
    fresh.data({ epoch: 7, fromSequence: 11, sequence: 14, snapshot: false }, [
      order("o", "NEW", 11),
      order("o", "FILLED", 12),
      order("p", "NEW", 14),
    ]);
    expect(old.closedWith).toBe(1000);
    old.update(7, 14);
    fresh.update(7, 15);
    expect(data.map((one) => [one.fromSequence, one.sequence])).toEqual([
      [10, 10],
      [11, 12],
      [13, 13],
      [14, 14],
      [15, 15],
    ]);
    expect(data.flatMap((one) => one.orderUpdates.map((update) => update.sequence))).toEqual([11, 12, 14]);
    expect(heard("onReconnected")).toMatchObject([{ cause: "pod_terminating", pauseMs: 0, attempt: 1 }]);
    expect(heard("onStatus")).toHaveLength(1);
    expect(connection.statistics).toMatchObject({ moves: 1, gaps: 0, duplicates: 0 });
    old.closed(1000);
    await clock.advance(1_000);
    expect(connection.status.state).toBe("open");
  });

  it("is not ended by the 4504 that its own later attempt caused", async () => {
    const { service, clock, begin, connection } = record();
    const old = await begin();
    old.say({ type: "pod_terminating", reconnectAfterMs: 0, deadlineMs: 20_000, reason: "SIGTERM" });
    await clock.advance(0);
    old.say({ type: "connection_replaced", reason: "newer_connection" });
    old.closed(4504);
    service.last.closed(1006);
    await clock.advance(1_000);
    expect(connection.end).toBeNull();
    expect(service.sockets.length).toBeGreaterThan(2);
  });

  it("tries again within its slot, and leaves at the deadline in any case", async () => {
    const { service, clock, begin, connection } = record();
    const old = await begin();
    service.onSocket = (socket) => socket.closed(1006);
    old.say({ type: "pod_terminating", reconnectAfterMs: 0, deadlineMs: 3_000, reason: "SIGTERM" });
    let sequence = 10;
    for (let step = 0; step < 29; step += 1) {
      await clock.advance(100);
      sequence += 1;
      old.update(7, sequence);
    }
    expect(service.sockets.length).toBeGreaterThan(2);
    expect(old.closedWith).toBeNull();
    await clock.advance(101);
    expect(old.closedWith).toBe(1000);
    expect(connection.status.state).toBe("reconnecting");
  });

  it("switches when it is connected, where no simulator runs", async () => {
    const { service, clock, connection } = record();
    await clock.advance(0);
    const old = service.last;
    old.connected({ simulatorStatus: "NONE" });
    old.say({ type: "pod_terminating", reconnectAfterMs: 0, deadlineMs: 3_000, reason: "SIGTERM" });
    await clock.advance(0);
    service.last.connected({ simulatorStatus: "NONE" });
    expect(old.closedWith).toBe(1000);
    expect(connection.connected?.podName).toBe("pod-2");
  });
});

describe("the sequence rule", () => {
  it("tells a gap once, applies nothing of it, and asks for a snapshot until one comes", async () => {
    const { clock, begin, heard, data, connection } = record();
    const socket = await begin();
    socket.update(7, 12);
    socket.update(7, 13);
    expect(heard("onGap")).toEqual([{ kind: "GAP", epoch: 7, fromSequence: 12, sequence: 12, expected: 11 }]);
    expect(data).toHaveLength(1);
    expect(socket.messages("request_full_refresh")).toHaveLength(1);
    for (let second = 0; second < 5; second += 1) {
      await clock.advance(1_000);
      socket.update(7, 14 + second);
    }
    expect(socket.messages("request_full_refresh")).toHaveLength(2);
    socket.snapshot(7, 20);
    socket.update(7, 21);
    expect(data.map((one) => one.sequence)).toEqual([10, 20, 21]);
    expect(connection.statistics).toMatchObject({ gaps: 1, duplicates: 0, snapshotsSkipping: 1 });
  });

  it("tells a duplicate", async () => {
    const { begin, heard, data } = record();
    const socket = await begin();
    socket.update(7, 10);
    expect(heard("onDuplicate")).toMatchObject([{ kind: "DUPLICATE", expected: 11 }]);
    expect(data).toHaveLength(1);
  });

  it("tells of frames that cannot be read, and goes on", async () => {
    const { begin, heard, connection } = record();
    const socket = await begin();
    socket.text("{");
    socket.text('{"type":"of_tomorrow"}');
    socket.text('{"type":"exchange_data","epoch":7}');
    socket.binary();
    expect(heard("onError").map((one) => one.message)).toEqual([
      "a frame that cannot be read",
      "a frame exchange_data that cannot be read",
    ]);
    expect(connection.status.state).toBe("open");
  });
});

describe("commands", () => {
  it("resolve with the answer", async () => {
    const { connection, begin } = record();
    const socket = await begin();
    const placed = connection.submitOrder({ symbol: "AAPL", side: "BUY", quantity: 1 }, { requestId: "r1" });
    expect(socket.sent).toEqual([
      { type: "submit_order", symbol: "AAPL", side: "BUY", quantity: 1, orderType: "MARKET", requestId: "r1" },
    ]);
    socket.say({
      type: "result",
      requestId: "r1",
      success: true,
      orderId: "o",
      status: "FILLED",
      filledQuantity: 1,
      averagePrice: 2,
    });
    expect(await placed).toEqual({
      orderId: "o",
      status: "FILLED",
      filledQuantity: 1,
      averagePrice: 2,
      symbol: null,
      reason: null,
    });
  });

  it("reject with what the service said; a rejected order is an answer", async () => {
    const { connection, begin } = record();
    const socket = await begin();
    const canceled = connection.cancelOrder("o", { requestId: "r1" });
    socket.say({ type: "result", requestId: "r1", success: false, code: "ORDER_NOT_FOUND", error: "No such order" });
    await expect(canceled).rejects.toMatchObject({ code: "ORDER_NOT_FOUND", message: "No such order" });
    await expect(canceled).rejects.toBeInstanceOf(ServiceError);
    const rejected = connection.submitOrder({ symbol: "A", side: "SELL", quantity: 1 }, { requestId: "r2" });
    socket.say({
      type: "result",
      requestId: "r2",
      success: false,
      code: "ORDER_REJECTED",
      orderId: "o",
      status: "REJECTED",
      reason: "no cash",
    });
    expect(await rejected).toMatchObject({ status: "REJECTED", reason: "no cash" });
  });

  it("are sent again, as they are, over the next connection until they are answered", async () => {
    const { connection, begin, service, clock } = record();
    const first = await begin();
    const placed = connection.submitOrder({ symbol: "AAPL", side: "BUY", quantity: 1 });
    const info = connection.requestSession();
    first.closed(1006);
    await clock.advance(125);
    service.last.connected({ resumed: true, epoch: 7, sequence: 10 });
    expect(service.last.sent).toEqual(first.sent);
    const [{ requestId } = {}] = service.last.messages("submit_order");
    service.last.say({ type: "result", requestId: String(requestId), success: true, orderId: "o", status: "NEW" });
    expect((await placed).orderId).toBe("o");
    const waiting = Symbol("waiting");
    expect(await Promise.race([info, Promise.resolve(waiting)])).toBe(waiting);
  });

  it("wait for the first connection", async () => {
    const { connection, clock, service } = record();
    const started = connection.startSimulator({ initialSymbols: ["AAPL"] }, { requestId: "r1" });
    await clock.advance(0);
    service.last.connected({ simulatorStatus: "NONE" });
    expect(service.last.sent).toEqual([{ type: "start_simulator", initialSymbols: ["AAPL"], requestId: "r1" }]);
    service.last.say({ type: "result", requestId: "r1", success: true, simulatorId: "s", status: "STARTING" });
    expect(await started).toEqual({ simulatorId: "s", status: "STARTING" });
  });

  it("are over in time, with an unknown outcome", async () => {
    const { connection, begin, clock } = record();
    await begin();
    const placed = connection.submitOrder(
      { symbol: "A", side: "BUY", quantity: 1 },
      { requestId: "r1", timeoutMs: 700 },
    );
    const failed = expect(placed).rejects.toMatchObject({ code: "COMMAND_TIMEOUT", requestId: "r1" });
    await clock.advance(700);
    await failed;
    await expect(placed).rejects.toBeInstanceOf(CommandTimeoutError);
    void connection.submitOrder({ symbol: "A", side: "BUY", quantity: 1 }, { requestId: "r1" });
    await expect(
      connection.submitOrder({ symbol: "A", side: "BUY", quantity: 1 }, { requestId: "r1" }),
    ).rejects.toBeInstanceOf(RangeError);
  });

  it("never come faster than the service takes them", async () => {
    const { connection, begin, clock } = record();
    const socket = await begin();
    for (let one = 0; one < 60; one += 1)
      void connection.cancelOrder(`o${one}`, { timeoutMs: 60_000 }).catch(() => {});
    expect(socket.sent.length).toBeLessThanOrEqual(30);
    const sentAt: number[] = [];
    for (let step = 0; step < 60; step += 1) {
      await clock.advance(50);
      sentAt.push(socket.sent.length);
      if (step % 10 === 0) socket.update(7, 11 + step / 10);
    }
    expect(Math.max(...sentAt.map((sent, step) => sent - (sentAt[step - 20] ?? sent)))).toBeLessThanOrEqual(20);
    await clock.advance(0);
    expect(socket.messages("cancel_order")).toHaveLength(60);
    expect(socket.messages("cancel_order").map((message) => message.orderId)).toEqual(
      Array.from({ length: 60 }, (_, one) => `o${one}`),
    );
  });

  it("keep a filter for later connections once it is taken", async () => {
    const { connection, begin, service, clock } = record();
    const socket = await begin();
    const subscribed = connection.subscribe(["MSFT"], { requestId: "r1" });
    socket.say({ type: "result", requestId: "r1", success: true, symbols: ["MSFT"] });
    await subscribed;
    socket.closed(1006);
    await clock.advance(125);
    expect(service.last.query.symbols).toBe("MSFT");
  });

  it("reject when the connection is over", async () => {
    const { connection, begin, told } = record();
    const socket = await begin();
    const info = connection.requestSession();
    connection.close();
    await expect(info).rejects.toMatchObject({ code: "CLIENT_CLOSED" });
    await expect(connection.stopSimulator()).rejects.toBeInstanceOf(ConnectionEndedError);
    expect(socket.closedWith).toBe(1000);
    expect(told.some((one) => one.name === "onEnd")).toBe(false);
    connection.close();
  });
});

describe("sleeping and waking", () => {
  it("looks at once when the page is shown, and comes back where nothing answers", async () => {
    const { service, clock, signal } = record();
    await clock.advance(0);
    service.last.connected({ simulatorStatus: "NONE" });
    await clock.advance(3_000);
    signal("visible");
    expect(service.last.messages("heartbeat")).toHaveLength(1);
    await clock.advance(2_500 + 125);
    expect(service.sockets).toHaveLength(2);
  });

  it("keeps a connection that answers", async () => {
    const { service, clock, signal } = record();
    await clock.advance(0);
    service.last.connected({ simulatorStatus: "NONE" });
    await clock.advance(3_000);
    signal("online");
    answerHeartbeats(service.last);
    await clock.advance(6_000);
    expect(service.sockets).toHaveLength(1);
  });

  it("does not wait out a pause once there is a network again", async () => {
    const { service, clock, begin, signal } = record({ url: "http://127.0.0.1:1" });
    service.onSocket = (socket) => {
      if (service.sockets.length > 1) socket.closed(1006);
    };
    (await begin()).closed(1006);
    await clock.advance(3_000);
    const tries = service.sockets.length;
    service.onSocket = null;
    signal("online");
    await clock.advance(125);
    expect(service.sockets).toHaveLength(tries + 1);
  });

  it("notices by the time of day that the machine slept", async () => {
    const { service, clock } = record();
    await clock.advance(0);
    service.last.connected({ simulatorStatus: "NONE" });
    await clock.advance(9_000);
    clock.sleep(3_600_000);
    await clock.advance(1_000);
    await clock.advance(2_500 + 125);
    expect(service.sockets).toHaveLength(2);
  });

  it("reads first what has arrived while its timers stood still", async () => {
    const { service, clock, begin, data } = record();
    const socket = await begin();
    clock.freeze(60_000);
    await clock.advance(0);
    socket.update(7, 11);
    answerHeartbeats(socket);
    await clock.advance(1_000);
    expect(service.sockets).toHaveLength(1);
    expect(data.at(-1)?.sequence).toBe(11);
  });

  it("does what is due as frames come, where the timers of a hidden page do not", async () => {
    const { service, clock } = record();
    await clock.advance(0);
    const socket = service.last;
    socket.connected();
    socket.snapshot(7, 1);
    for (let second = 1; second <= 12; second += 1) {
      clock.freeze(1_000);
      socket.update(7, 1 + second);
    }
    await settle();
    expect(socket.messages("heartbeat").length).toBeGreaterThanOrEqual(1);
  });
});

function answerHeartbeats(
  socket: ReturnType<typeof record>["service"]["last"],
  fields: { sessionStatus?: "invalid" } = {},
): void {
  const beat = socket.messages("heartbeat").at(-1);
  if (beat === undefined) throw new Error("no heartbeat was sent");
  socket.heartbeatAck(beat, fields);
}

async function keepAlive(
  clock: ReturnType<typeof record>["clock"],
  socket: () => ReturnType<typeof record>["service"]["last"],
  ms: number,
): Promise<void> {
  for (let step = 0; step < ms / 1_000; step += 1) {
    await clock.advance(1_000);
    if (socket().messages("heartbeat").length > 0) answerHeartbeats(socket());
  }
}

describe("a listener that closes the connection", () => {
  it.each(["onStatus", "onReconnected", "onSimulatorStatus", "onExchangeData"] as const)(
    "hears no more than that it is closed: %s",
    async (name) => {
      const told: string[] = [];
      let armed = false;
      const note = (one: string) => () => {
        told.push(one);
        if (armed && one === name) {
          armed = false;
          recorded.connection.close();
          told.push("returned");
        }
      };
      const names = ["onStatus", "onReconnected", "onSimulatorStatus", "onExchangeData", "onEnd"];
      const recorded = record(Object.fromEntries(names.map((one) => [one, note(one)])));
      const { clock, service, begin } = recorded;
      (await begin()).closed(1006);
      await clock.advance(125);
      armed = true;
      service.last.connected({ simulatorStatus: "STARTING" });
      service.last.snapshot(7, 11);
      service.last.update(7, 12);
      await clock.advance(60_000);
      expect(told.slice(told.indexOf("returned"))).toEqual(["returned"]);
      expect(recorded.connection.status.state).toBe("closed");
      expect(service.last.closedWith).toBe(1000);
      expect(service.sockets).toHaveLength(2);
      expect(clock.timers).toBe(0);
    },
  );
});
