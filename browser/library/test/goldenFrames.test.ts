/** The frames that the service's own tests read too: tests/contract/golden_frames/README.md says what each file holds. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { mayReconnect } from "../src/closeCodes.ts";
import { EventStreamReader } from "../src/eventStream.ts";
import type { Position } from "../src/events.ts";
import type { ClientMessage, OrderRequest, StartRequest } from "../src/frames.ts";
import { readFrame } from "../src/readFrame.ts";
import { type Range, SequenceChecker } from "../src/sequence.ts";
import { settle } from "./support/fakeClock.ts";
import { record } from "./support/recorded.ts";

type Frame = Record<string, unknown>;

function golden<Case>(file: string): (Case & { readonly name: string })[] {
  const url = new URL(`../../../tests/contract/golden_frames/${file}.json`, import.meta.url);
  return JSON.parse(readFileSync(url, "utf8")) as (Case & { readonly name: string })[];
}

describe("server messages", () => {
  const cases = golden<{ readonly type: string; readonly frame: Frame }>("server_messages");

  it.each(cases)("$name: is read, with every field as it came", ({ frame }) => {
    expect(readFrame(JSON.stringify(frame))).toEqual(frame);
  });

  it.each(cases)("$name: is refused with a required field of another shape", ({ type, frame }) => {
    const optional = new Set(["type", "timestamp", ...(type === "error" ? ["details"] : [])]);
    for (const field of Object.keys(frame)) {
      if (optional.has(field)) continue;
      expect(readFrame(JSON.stringify({ ...frame, [field]: [{}] })), field).toEqual({ type: "unreadable", of: type });
    }
  });

  it("are all of the types that this library knows", () => {
    expect(new Set(cases.map(({ type }) => type)).size).toBe(12);
  });

  it.each(cases)("$name: may have fields of a later service", ({ frame }) => {
    expect(readFrame(JSON.stringify({ ...frame, ofTomorrow: [1] }))).toEqual({ ...frame, ofTomorrow: [1] });
  });
});

describe("client messages", () => {
  const cases = golden<{ readonly type: string; readonly frame: Frame; readonly ignored?: string[] }>(
    "client_messages",
  );

  it.each(cases.filter(({ type }) => COMMANDS.has(type)))(
    "$name: goes out exactly so",
    async ({ frame, ignored = [] }) => {
      const { connection, begin } = record();
      const socket = await begin();
      const { requestId, ...fields } = frame;
      COMMANDS.get(String(frame.type))?.(connection, fields, String(requestId)).catch(() => {});
      const expected = Object.fromEntries(Object.entries(frame).filter(([name]) => !ignored.includes(name)));
      expect(socket.sent).toEqual([expected]);
      connection.close();
    },
  );

  it.each(cases.filter(({ type }) => !COMMANDS.has(type)))(
    "$name: has the fields of the type here",
    ({ frame, ignored = [] }) => {
      const known = KNOWN_FIELDS[frame.type as keyof typeof KNOWN_FIELDS];
      expect(Object.keys(frame).filter((name) => !ignored.includes(name) && !known.includes(name))).toEqual([]);
    },
  );

  it("what goes out by itself is among them", async () => {
    const { clock, service, connection } = record();
    await clock.advance(0);
    service.last.connected({ simulatorStatus: "NONE" });
    await clock.advance(10_000);
    const [{ timestamp } = {}] = service.last.messages("heartbeat");
    service.last.say({
      type: "heartbeat_ack",
      clientTimestamp: Number(timestamp),
      deviceId: "laptop",
      deviceIdValid: true,
      sessionStatus: "valid",
      simulatorStatus: "NONE",
      connectionQuality: "GOOD",
      reconnectRecommended: false,
    });
    await clock.advance(10_000);
    await connection.refreshToken();
    for (const message of service.last.sent) {
      const known = KNOWN_FIELDS[message.type as keyof typeof KNOWN_FIELDS];
      expect(Object.keys(message).filter((name) => !known.includes(name))).toEqual([]);
    }
    expect(new Set(service.last.sent.map((message) => message.type))).toEqual(
      new Set(["heartbeat", "connection_quality", "authenticate"]),
    );
    connection.close();
  });
});

describe("answers to messages that the service refuses", () => {
  const cases = golden<{ readonly frame?: Frame; readonly expect: Frame }>("refused_messages");

  it.each(cases)("$name: is an error of its command, or is told", async ({ expect: answer }) => {
    const { connection, begin, heard } = record();
    const socket = await begin();
    const { requestId } = answer;
    const command = connection.stopSimulator(typeof requestId === "string" ? { requestId } : {});
    const failed = command.catch((error: unknown) => error);
    const words = answer.type === "error" ? { message: "words" } : { error: "words" };
    socket.text(JSON.stringify({ timestamp: 1, ...words, ...answer }));
    await settle();
    if (typeof requestId === "string") {
      expect(await failed).toMatchObject({ code: answer.errorCode ?? answer.code, message: "words" });
    } else {
      expect(heard("onError")).toEqual([{ code: answer.errorCode, message: "words" }]);
    }
    expect(connection.status.state).toBe("open");
    connection.close();
  });
});

describe("close codes", () => {
  it.each(golden<{ readonly code: number; readonly mayReconnect: boolean }>("close_codes"))("$name", async (one) => {
    expect(mayReconnect(one.code)).toBe(one.mayReconnect);
    const { begin, connection } = record();
    (await begin()).closed(one.code);
    expect(connection.end === null).toBe(one.mayReconnect);
    connection.close();
  });
});

describe("sequences", () => {
  type Step = Range & { readonly expect: string };
  const cases = golden<{ readonly beginsAfter: Position | null; readonly frames: Step[] }>("sequences");

  it.each(cases)("$name", ({ beginsAfter, frames }) => {
    const checker = new SequenceChecker(beginsAfter);
    const verdicts = frames.map((frame) => {
      const violation = checker.check(frame);
      if (violation !== null) return violation.kind.toLowerCase();
      return checker.broken ? "ignored" : "applied";
    });
    expect(verdicts).toEqual(frames.map((frame) => frame.expect));
  });
});

describe("event streams", () => {
  type Event = {
    readonly type: string;
    readonly text: string;
    readonly lastEventId: string | null;
    readonly frame: Frame;
  };
  const cases = golden<Event>("event_stream");

  it.each(cases)("$name", ({ type, text, lastEventId, frame }) => {
    const [event, ...more] = new EventStreamReader().feed(text);
    expect(more).toEqual([]);
    expect(event).toMatchObject({ type, lastEventId: lastEventId ?? "" });
    expect(readFrame(event?.data ?? "")).toEqual(frame);
  });

  it("are the same in pieces of any size", () => {
    const text = cases.map((one) => one.text).join(": keep-alive\n\n");
    for (const size of [1, 2, 3, 7, 64]) {
      const reader = new EventStreamReader();
      const events = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
        reader.feed(text.slice(at * size, (at + 1) * size)),
      ).flat();
      expect(events.map((event) => JSON.parse(event.data) as Frame)).toEqual(cases.map((one) => one.frame));
    }
  });
});

type Send = (
  connection: ReturnType<typeof record>["connection"],
  fields: Frame,
  requestId: string,
) => Promise<unknown>;

const COMMANDS = new Map<string, Send>([
  [
    "start_simulator",
    (to, { type: _, ...fields }, requestId) => to.startSimulator(fields as StartRequest, { requestId }),
  ],
  ["stop_simulator", (to, _, requestId) => to.stopSimulator({ requestId })],
  ["request_session", (to, _, requestId) => to.requestSession({ requestId })],
  ["request_full_refresh", (to, _, requestId) => to.requestFullRefresh({ requestId })],
  ["subscribe", (to, fields, requestId) => to.subscribe(fields.symbols as string[], { requestId })],
  ["submit_order", (to, fields, requestId) => to.submitOrder(fields as unknown as OrderRequest, { requestId })],
  ["cancel_order", (to, fields, requestId) => to.cancelOrder(String(fields.orderId), { requestId })],
]);

type Without<Type extends ClientMessage["type"]> = Exclude<ClientMessage["type"], Type>;
type OfType<Type> = Extract<ClientMessage, { readonly type: Type }>;
type Uncommanded = Exclude<
  Without<"start_simulator" | "subscribe" | "submit_order" | "cancel_order">,
  "stop_simulator" | "request_session" | "request_full_refresh"
>;

/** The compiler keeps these in step with the types. */
const KNOWN_FIELDS = {
  heartbeat: ["type", "timestamp", "deviceId", "connectionQuality", "sequence"],
  reconnect: ["type", "requestId", "deviceId", "sessionToken", "epoch", "sequence", "symbols"],
  connection_quality: ["type", "latencyMs", "missedHeartbeats", "connectionType"],
  authenticate: ["type", "token", "requestId"],
} as const satisfies { [Type in Uncommanded]: readonly (keyof OfType<Type>)[] } as Record<
  Uncommanded,
  readonly string[]
>;
