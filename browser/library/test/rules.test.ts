/** The rules without I/O, one by one. */

import { describe, expect, it } from "vitest";
import { expiryMs, refreshAgainInMs, refreshInMs, subprotocols, TokenSource } from "../src/accessToken.ts";
import { baseAddress, socketAddress } from "../src/addresses.ts";
import { DecorrelatedJitter } from "../src/backoff.ts";
import { ClientIdentity, newId, putBackIdentity, takeIdentity } from "../src/clientIdentity.ts";
import { afterClose, afterRefusal } from "../src/closeCodes.ts";
import { Commands, MAX_WAITING } from "../src/commands.ts";
import { Endpoints } from "../src/endpoints.ts";
import { EventStreamReader } from "../src/eventStream.ts";
import { ExchangeView } from "../src/exchangeView.ts";
import { Heartbeats } from "../src/heartbeats.ts";
import { readRefusal } from "../src/restCall.ts";
import { SendRate } from "../src/sendRate.ts";
import { Silence } from "../src/silence.ts";
import { Slot } from "../src/slot.ts";
import { TransportChoice } from "../src/transportChoice.ts";
import { FakeClock } from "./support/fakeClock.ts";
import { order } from "./support/fakeService.ts";
import { tokenUntil } from "./support/recorded.ts";

describe("an address that asked to be left alone", () => {
  it("is, also where it fails once more without saying for how long", () => {
    const endpoints = new Endpoints(["one"]);
    endpoints.leave("one", 5_000);
    endpoints.leave("one");
    expect(endpoints.choose(1_000)).toEqual({ url: "one", waitMs: 4_000 });
  });
});

describe("Retry-After", () => {
  it.each([
    ["7", 7_000],
    ["86400", 300_000],
    ["9".repeat(400), 300_000],
    ["Fri, 20 Nov 2026 20:00:00 GMT", null],
    ["-1", null],
    [null, null],
  ])("%s", async (value, expected) => {
    const headers: Record<string, string> = value === null ? {} : { "Retry-After": value };
    const refusal = await readRefusal(new Response("{}", { status: 503, headers }));
    expect(refusal.retryAfterMs).toBe(expected);
  });
});

describe("the pause before a try", () => {
  it("is short at first, then between the base and three times the last, at most the cap", () => {
    const numbers = [0.5, 0.999, 0, 0.999, 0.999, 0.999];
    const jitter = new DecorrelatedJitter(() => numbers.shift() ?? 0.999, {
      firstMs: 250,
      baseMs: 500,
      capMs: 10_000,
      short: 1,
    });
    const pauses = Array.from({ length: 6 }, () => Math.round(jitter.nextMs()));
    expect(pauses).toEqual([125, 1499, 500, 1499, 4493, 10_000]);
    jitter.reset();
    expect(jitter.nextMs()).toBeLessThan(250);
  });

  it("is spread over the whole range", () => {
    const jitter = new DecorrelatedJitter(Math.random, { firstMs: 250, baseMs: 500, capMs: 10_000, short: 0 });
    const pauses = Array.from({ length: 2_000 }, () => jitter.nextMs());
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(500);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(10_000);
    expect(new Set(pauses.map((pause) => Math.floor(pause / 1_000))).size).toBeGreaterThan(8);
  });
});

describe("the token", () => {
  const now = 1_795_168_800_000;

  it("says when it expires, where it is one that does", () => {
    expect(expiryMs(tokenUntil(now))).toBe(now);
    for (const text of [
      "",
      "a.b",
      "a.!.c",
      `a.${btoa("[]")}.c`,
      `a.${btoa('{"exp":"soon"}')}.c`,
      `a.${btoa("{}")}.c`,
    ]) {
      expect(expiryMs(text)).toBeNull();
    }
  });

  it.each([
    [3_600_000, 3_540_000],
    [100_000, 80_000],
    [1_000, 1_000],
    [-5_000, 1_000],
  ])("that expires in %d ms is renewed in %d ms", (leftMs, inMs) => {
    expect(refreshInMs(tokenUntil(now + leftMs), now)).toBe(inMs);
  });

  it("without an expiry is not renewed; a renewal that brought none is tried again, never in a hurry", () => {
    expect(refreshInMs("opaque", now)).toBeNull();
    expect(refreshAgainInMs(tokenUntil(now + 60_000), now)).toBe(30_000);
    expect(refreshAgainInMs("opaque", now)).toBe(1_000);
  });

  it("is base64url without padding in the subprotocol", () => {
    const [, protocol = ""] = subprotocols("~~~>>>???a");
    expect(protocol).toMatch(/^bearer\.[A-Za-z0-9_-]+$/);
    const text = protocol.slice(7).replaceAll("-", "+").replaceAll("_", "/");
    expect(atob(text)).toBe("~~~>>>???a");
  });

  it("has to be some text", async () => {
    const source = new TokenSource(() => "", new FakeClock());
    await expect(source.get("rest")).rejects.toBeInstanceOf(TypeError);
  });
});

describe("addresses", () => {
  it.each([
    ["http://h:1", "http://h:1", "ws://h:1/ws?a=1"],
    ["wss://h/", "https://h", "wss://h/ws?a=1"],
    ["ws://h/prefix/ws", "http://h/prefix", "ws://h/prefix/ws?a=1"],
    ["https://h/prefix/?x=1#y", "https://h/prefix", "wss://h/prefix/ws?a=1"],
    ["/", "https://page.example", "wss://page.example/ws?a=1"],
  ])("%s", (text, base, socket) => {
    expect(baseAddress(text, "https://page.example/somewhere/")).toBe(base);
    expect(socketAddress(base, new URLSearchParams({ a: "1" }))).toBe(socket);
  });

  it.each(["", "ftp://h", "not an address"])("%j is none", (text) => {
    expect(() => baseAddress(text)).toThrow(TypeError);
  });

  it("come in turn, each when it wants to", () => {
    const endpoints = new Endpoints(["a", "b", "c", "a"]);
    expect([endpoints.size, endpoints.choose(0).url, endpoints.choose(0).url]).toEqual([3, "a", "a"]);
    endpoints.leave("a", 500);
    endpoints.leave("b", 300);
    expect(endpoints.choose(0)).toEqual({ url: "c", waitMs: 0 });
    endpoints.leave("c", 900);
    expect(endpoints.choose(100)).toEqual({ url: "b", waitMs: 200 });
    expect(endpoints.choose(1_000)).toEqual({ url: "a", waitMs: 0 });
    expect(() => new Endpoints([])).toThrow(TypeError);
  });
});

describe("heartbeats", () => {
  it("count what is unanswered; an answer speaks for those before it", () => {
    const heartbeats = new Heartbeats(0, 10);
    for (const at of [10, 20, 30]) heartbeats.beat(at, at);
    expect([heartbeats.missed, heartbeats.nextMs]).toEqual([2, 40]);
    expect(heartbeats.answered(34, 20)).toBe(true);
    expect([heartbeats.missed, heartbeats.roundTripMs]).toEqual([0, 14]);
    expect(heartbeats.answered(35, 10)).toBe(false);
    expect(heartbeats.answered(36, 30)).toBe(true);
    expect(heartbeats.roundTripMs).toBe(6);
  });

  it("say that a socket is lost after three, unless something else came", () => {
    const heartbeats = new Heartbeats(0, 10);
    for (const at of [10, 20, 30]) heartbeats.beat(at, at);
    expect(heartbeats.lost(5)).toBe(false);
    heartbeats.beat(40, 40);
    expect([heartbeats.lost(5), heartbeats.lost(15)]).toEqual([true, false]);
  });
});

describe("silence", () => {
  it("asks after half its limit, and is the end after the whole", () => {
    const silence = new Silence(0, 5_000);
    expect(silence.look(2_499, 0)).toBe("nothing");
    expect(silence.look(2_500, 0)).toBe("ask");
    expect(silence.look(4_999, 0)).toBe("nothing");
    expect(silence.look(5_000, 0)).toBe("lost");
  });

  it("is over with whatever comes", () => {
    const silence = new Silence(0, 5_000);
    expect(silence.look(2_500, 0)).toBe("ask");
    expect(silence.awaits(0)).toBe(true);
    expect(silence.look(5_000, 3_000)).toBe("nothing");
    expect([silence.awaits(3_000), silence.nextMs]).toEqual([false, 5_500]);
    expect(silence.look(5_500, 3_000)).toBe("ask");
  });

  it("is not believed where the look came late, but once only", () => {
    const silence = new Silence(0, 5_000);
    expect(silence.look(9_000, 0)).toBe("nothing");
    expect(silence.nextMs).toBe(10_250);
    expect(silence.look(11_000, 0)).toBe("ask");
    expect(silence.look(14_400, 0)).toBe("lost");
  });
});

describe("a slot", () => {
  const slot = (): Slot => new Slot({ cause: "pod_terminating", opensAtMs: 100, deadlineMs: 1_000 });

  it("opens, waits for the first data, and switches", () => {
    const one = slot();
    expect(one.step(99, { opened: false, delivers: false })).toBe("wait");
    expect(one.step(100, { opened: false, delivers: false })).toBe("open");
    expect(one.step(200, { opened: true, delivers: false })).toBe("wait");
    expect(one.step(200, { opened: true, delivers: true })).toBe("switch");
    expect(one.step(1_000, { opened: true, delivers: false })).toBe("switch");
  });

  it("is given up at its deadline", () => {
    const one = slot();
    one.postpone(5_000);
    expect([one.nextMs(false), one.nextMs(true)]).toEqual([1_000, 1_000]);
    expect(one.step(1_000, { opened: false, delivers: false })).toBe("give-up");
  });

  it("does not open after its deadline", () => {
    expect(new Slot({ cause: "pod_terminating", opensAtMs: 9_000, deadlineMs: 1_000 }).opensAtMs).toBe(1_000);
  });
});

describe("what follows an end", () => {
  it("is nothing where the service said so before, whatever the code", () => {
    const said = { closeCode: null, reason: "", superseded: false };
    expect(afterClose({ ...said, code: "SESSION_ENDED" })).toMatchObject({ kind: "final", code: "SESSION_ENDED" });
    expect(afterClose({ ...said, code: "CONNECTION_REPLACED" })).toMatchObject({ kind: "final" });
    expect(afterClose({ ...said, code: "SERVICE_UNAVAILABLE", closeCode: 1013 })).toMatchObject({ kind: "retry" });
  });

  it("is another try where the client itself made a later one", () => {
    expect(afterClose({ closeCode: 4504, code: "CONNECTION_REPLACED", reason: "", superseded: true }).kind).toBe(
      "retry",
    );
    expect(afterClose({ closeCode: 4503, code: null, reason: "", superseded: true }).kind).toBe("final");
  });

  it.each([
    [503, "OVERLOADED", "retry"],
    [500, "INTERNAL_ERROR", "retry"],
    [429, "RATE_LIMITED", "retry"],
    [403, "UNKNOWN", "retry"],
    [401, "AUTHENTICATION_FAILED", "final"],
    [404, "SESSION_NOT_FOUND", "final"],
  ])("of HTTP %d %s is %s", (status, code, kind) => {
    expect(afterRefusal(status, code, "", 2_000).kind).toBe(kind);
  });
});

describe("the rate of messages", () => {
  it("keeps a reserve for heartbeats, and fills with time", () => {
    const rate = new SendRate(0, { messagesPerSecond: 20, messageBurst: 40 });
    let sent = 0;
    while (rate.waitMs(0) === 0) {
      rate.sent(0);
      sent += 1;
    }
    expect(sent).toBe(26);
    const waitMs = rate.waitMs(0);
    expect(waitMs).toBeGreaterThan(0);
    expect(rate.waitMs(waitMs)).toBe(0);
  });

  it("never asks to wait for less than a clock can tell", () => {
    const rate = new SendRate(0, { messagesPerSecond: 20, messageBurst: 40 });
    for (let nowMs = 0; nowMs < 20_000; ) {
      const waitMs = rate.waitMs(nowMs);
      if (waitMs === 0) rate.sent(nowMs);
      else expect(waitMs).toBeGreaterThanOrEqual(1);
      nowMs += waitMs;
    }
  });
});

describe("the choice of a transport", () => {
  it("falls back after three failures while HTTP answers, and returns later and later", () => {
    const choice = new TransportChoice("auto");
    expect([choice.kind, choice.asks]).toEqual(["websocket", false]);
    choice.webSocketFailed(false);
    expect(choice.asks).toBe(true);
    choice.webSocketFailed(true);
    expect(choice.kind).toBe("websocket");
    choice.webSocketFailed(true);
    expect(choice.kind).toBe("sse");
    expect(Array.from({ length: 5 }, () => choice.nextReturnMs())).toEqual([
      60_000, 120_000, 240_000, 480_000, 600_000,
    ]);
    choice.webSocketOpened();
    expect([choice.kind, choice.nextReturnMs()]).toEqual(["websocket", 60_000]);
  });

  it("begins to count anew where HTTP did not answer either", () => {
    const choice = new TransportChoice("auto");
    for (const reachable of [false, true, false, true]) choice.webSocketFailed(reachable);
    expect(choice.kind).toBe("websocket");
  });

  it("keeps to what it was told", () => {
    const socket = new TransportChoice("websocket");
    for (let failures = 0; failures < 5; failures += 1) socket.webSocketFailed(true);
    expect([socket.kind, socket.nextReturnMs()]).toEqual(["websocket", null]);
    expect([new TransportChoice("sse").kind, new TransportChoice("sse").asks]).toEqual(["sse", false]);
  });
});

describe("the client's identity", () => {
  class Kept {
    readonly items = new Map<string, string>();
    getItem = (key: string): string | null => this.items.get(key) ?? null;
    setItem = (key: string, value: string): void => void this.items.set(key, value);
    removeItem = (key: string): void => void this.items.delete(key);
  }

  it("is taken out while the page lives, so that a duplicated tab has its own", () => {
    const tab = new Kept();
    putBackIdentity(tab, new ClientIdentity("laptop", "tab-1", 4));
    const identity = takeIdentity(tab, "laptop");
    expect(identity).toMatchObject({ clientId: "tab-1", attempt: 4 });
    expect(identity?.nextAttempt()).toBe(5);
    const duplicate = new Kept();
    for (const [key, value] of tab.items) duplicate.setItem(key, value);
    expect(takeIdentity(duplicate, "laptop")).toBeNull();
  });

  it("is that of its device only, and nothing that somebody else wrote", () => {
    const tab = new Kept();
    putBackIdentity(tab, new ClientIdentity("laptop", "tab-1", 4));
    expect(takeIdentity(tab, "phone")).toBeNull();
    for (const text of ["{", "7", '{"clientId":""}', `{"clientId":"a","device":"laptop","attempt":"1"}`]) {
      tab.setItem("session-service-client", text);
      expect(takeIdentity(tab, "laptop")).toBeNull();
    }
  });

  it("is unlike any other", () => {
    const ids = new Set(Array.from({ length: 1_000 }, newId));
    expect(ids.size).toBe(1_000);
    expect([...ids].every((id) => /^[0-9a-f]{32}$/.test(id))).toBe(true);
  });
});

describe("commands", () => {
  const stop = (requestId: string) => ({ type: "stop_simulator", requestId }) as const;

  it("are bounded, and known by their request id", () => {
    const commands = new Commands();
    for (let one = 0; one < MAX_WAITING; one += 1)
      commands.add(
        stop(`r${one}`),
        () => {},
        () => {},
      );
    expect(() =>
      commands.add(
        stop("one more"),
        () => {},
        () => {},
      ),
    ).toThrow(RangeError);
    commands.remove("r0");
    expect(() =>
      commands.add(
        stop("r1"),
        () => {},
        () => {},
      ),
    ).toThrow(RangeError);
  });

  it("are answered once", () => {
    const commands = new Commands();
    const answers: unknown[] = [];
    commands.add(
      stop("r"),
      (frame) => answers.push(frame),
      () => {},
    );
    const frame = { type: "result", requestId: "r", success: true, timestamp: 1 } as const;
    expect([commands.answered(frame), commands.answered(frame), commands.size]).toEqual([true, false, 0]);
    expect(answers).toEqual([frame]);
  });
});

describe("an event stream's text", () => {
  it("is read with any line ends, comments and fields of others passed over", () => {
    const reader = new EventStreamReader();
    const text =
      "\ufeff: hello\r\nevent: a\r\ndata: 1\r\ndata: 2\r\nid: 7:1\r\nretry: 5\r\nodd\r\n\r\ndata:x\r\rdata: y\n\nevent: lost\n\n";
    const events = [...text].flatMap((piece) => reader.feed(piece));
    expect(events).toEqual([
      { type: "a", data: "1\n2", lastEventId: "7:1" },
      { type: "message", data: "x", lastEventId: "7:1" },
      { type: "message", data: "y", lastEventId: "7:1" },
    ]);
  });

  it("does not grow without end", () => {
    const reader = new EventStreamReader();
    const piece = "x".repeat(1024 * 1024);
    expect(() => {
      for (let round = 0; round < 6; round += 1) reader.feed(piece);
    }).toThrow(RangeError);
  });
});

describe("the view", () => {
  const frame = (fromSequence: number, sequence: number, snapshot = false) => ({
    epoch: 7,
    fromSequence,
    sequence,
    snapshot,
    timestampMs: 1,
    quotes: [],
    orderUpdates: Array.from({ length: sequence - fromSequence + 1 }, (_, at) =>
      order(`o${fromSequence + at}`, "NEW", fromSequence + at),
    ),
    portfolio: null,
  });

  it("takes of a frame what is new, and nothing twice", () => {
    const view = new ExchangeView();
    view.apply(frame(1, 1, true));
    expect(view.apply(frame(2, 4))).toMatchObject({ fromSequence: 2 });
    expect(view.apply(frame(2, 3))).toBeNull();
    expect(view.apply(frame(2, 4))).toBeNull();
    const rest = view.apply(frame(3, 6));
    expect([rest?.fromSequence, rest?.orderUpdates.map((one) => one.sequence)]).toEqual([5, [5, 6]]);
    expect(view.position).toEqual({ epoch: 7, sequence: 6 });
  });

  it("is replaced by a snapshot", () => {
    const view = new ExchangeView();
    view.apply(frame(1, 5));
    view.apply({ ...frame(9, 9, true), epoch: 8 });
    expect([...view.orders.keys()]).toEqual(["o9"]);
    expect(view.position).toEqual({ epoch: 8, sequence: 9 });
  });
});
