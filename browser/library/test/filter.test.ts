/** The filter of symbols, where it changes while connections do. */

import { describe, expect, it } from "vitest";
import { ServiceError } from "../src/errors.ts";
import { settle } from "./support/fakeClock.ts";
import { FakeHttp, type FakeStream } from "./support/fakeHttp.ts";
import { dataFrame } from "./support/fakeService.ts";
import { record } from "./support/recorded.ts";

const AT_ONCE = { reconnectAfterMs: 0, deadlineMs: 20_000, reason: "SIGTERM" };

describe("a filter that changes during a move", () => {
  it("is asked of the new connection, which was opened under the old one", async () => {
    const { connection, service, clock, begin } = record();
    const old = await begin();
    old.say({ type: "pod_terminating", ...AT_ONCE });
    await clock.advance(0);
    expect(service.last.query.symbols).toBeUndefined();
    const subscribed = connection.subscribe(["MSFT"], { requestId: "r1" });
    old.say({ type: "result", requestId: "r1", success: true, symbols: ["MSFT"] });
    await subscribed;
    service.last.connected({ resumed: true, epoch: 7, sequence: 10 });
    service.last.update(7, 11);
    expect(service.last.messages("subscribe")).toMatchObject([{ symbols: ["MSFT"] }]);
  });

  it("is not asked of one that was opened under it", async () => {
    const { connection, service, clock, begin } = record();
    const old = await begin();
    const subscribed = connection.subscribe(["MSFT"], { requestId: "r1" });
    old.say({ type: "result", requestId: "r1", success: true, symbols: ["MSFT"] });
    await subscribed;
    old.closed(1006);
    await clock.advance(125);
    expect(service.last.query.symbols).toBe("MSFT");
    service.last.connected({ resumed: true, epoch: 7, sequence: 10 });
    service.last.update(7, 11);
    expect(service.last.messages("subscribe")).toEqual([]);
  });
});

describe("a snapshot that is behind what is known", () => {
  it("is asked for once more when its pod has caught up, since only a snapshot tells of another filter", async () => {
    const { connection, service, clock, begin, data } = record();
    const old = await begin();
    old.say({ type: "pod_terminating", ...AT_ONCE });
    await clock.advance(0);
    const next = service.last;
    next.connected({ resumed: true, epoch: 7, sequence: 10 });
    old.update(7, 11);
    old.update(7, 12);
    next.update(7, 11);
    next.snapshot(7, 11);
    expect(next.messages("request_full_refresh")).toEqual([]);
    next.update(7, 12);
    expect(next.messages("request_full_refresh")).toHaveLength(1);
    next.snapshot(7, 12);
    next.update(7, 13);
    expect(next.messages("request_full_refresh")).toHaveLength(1);
    expect(data.map((one) => [one.sequence, one.snapshot])).toEqual([
      [10, true],
      [11, false],
      [12, false],
      [12, true],
      [13, false],
    ]);
    expect(connection.statistics).toMatchObject({ gaps: 0, duplicates: 0 });
  });
});

describe("over event streams", () => {
  it("a filter that is refused fails its command, and the stream that was there stays", async () => {
    const { connection, http, clock, heard } = await streamed();
    http.answerStream = () => ({ status: 400, body: { code: "INVALID_REQUEST", error: "symbols: too long" } });
    const refused = connection.subscribe(["A".repeat(40)]).catch((error: unknown) => error);
    await turns(clock);
    expect(await refused).toEqual(new ServiceError("INVALID_REQUEST", "symbols: too long"));
    http.answerStream = () => "stream";
    data(http.last, 11);
    await clock.advance(15_000);
    await turns(clock);
    expect(connection.end).toBeNull();
    expect(heard("onStatus").map(({ state }) => state)).toEqual(["open"]);
    expect(connection.position).toEqual({ epoch: 7, sequence: 11 });
    http.last.end();
    await turns(clock);
    await clock.advance(125);
    await turns(clock);
    expect(http.last.query.symbols).toBeUndefined();
  });

  it("of two filters the later one holds", async () => {
    const { connection, http, clock } = await streamed();
    const first = connection.subscribe(["AAPL"]);
    await turns(clock);
    const second = connection.subscribe(["MSFT"]);
    await turns(clock);
    expect(http.last.query.symbols).toBe("AAPL");
    http.last.connected();
    data(http.last, 11, true);
    await turns(clock);
    expect(http.streams).toHaveLength(3);
    expect(http.last.query.symbols).toBe("MSFT");
    http.last.connected();
    data(http.last, 12, true);
    await turns(clock);
    await Promise.all([first, second]);
    expect(http.streams).toHaveLength(3);
  });
});

/** A connection over an event stream, at (epoch 7, sequence 10). */
async function streamed() {
  const http = new FakeHttp();
  const recorded = record({
    url: "http://127.0.0.1:1",
    sessionId: "session-1",
    transport: "sse",
    platform: { fetch: http.fetch },
  });
  await turns(recorded.clock);
  http.last.connected();
  data(http.last, 10, true);
  await turns(recorded.clock);
  return { ...recorded, http };
}

function data(stream: FakeStream, sequence: number, snapshot = false): void {
  stream.say(dataFrame({ epoch: 7, fromSequence: sequence, sequence, snapshot }));
}

/** What streams and promises have under way; streams take turns of the event loop. */
async function turns(clock: { advance(ms: number): Promise<void> }): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(0);
    await settle();
  }
}
