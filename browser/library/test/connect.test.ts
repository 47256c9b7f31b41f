/** What `connect` takes, and who a client is over the loads of a page. */

import { describe, expect, it } from "vitest";
import { connect } from "../src/connect.ts";
import type { ConnectOptions } from "../src/options.ts";
import { record } from "./support/recorded.ts";

class Kept {
  readonly items = new Map<string, string>();
  getItem = (key: string): string | null => this.items.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.items.set(key, value);
  removeItem = (key: string): void => void this.items.delete(key);
}

describe("options that cannot be right", () => {
  const right: ConnectOptions = { url: "http://127.0.0.1:1", deviceId: "laptop", getToken: () => "token" };
  const wrong: [string, Partial<ConnectOptions>][] = [
    ["no address", { url: [] }],
    ["an address of another kind", { url: "ftp://host" }],
    ["no device", { deviceId: "" }],
    ["a client id that is too long", { clientId: "c".repeat(65) }],
    ["WebSockets where there are none", { transport: "websocket", platform: { socket: null } }],
    ["neither WebSockets nor fetch", { platform: { socket: null, fetch: null } }],
  ];

  it.each(wrong)("%s", (_name, options) => {
    expect(() => connect({ ...right, ...options })).toThrow(TypeError);
  });
});

describe("a client whose id is kept", () => {
  const withoutId = (kept: Kept) => {
    const { connection, clock, service, signal } = record({ keepClientIdIn: kept, clientId: undefined as never });
    return { connection, clock, service, signal };
  };

  it("is the same one after a reload, with higher attempts", async () => {
    const tab = new Kept();
    const before = withoutId(tab);
    await before.clock.advance(0);
    expect(tab.items.size).toBe(0);
    before.signal("left");
    const after = withoutId(tab);
    await after.clock.advance(0);
    expect(after.connection.clientId).toBe(before.connection.clientId);
    expect([before.service.last.attempt, after.service.last.attempt]).toEqual([0, 1]);
  });

  it("is another one in a duplicated tab", async () => {
    const tab = new Kept();
    const first = withoutId(tab);
    const copy = new Kept();
    for (const [key, value] of tab.items) copy.setItem(key, value);
    expect(withoutId(copy).connection.clientId).not.toBe(first.connection.clientId);
  });

  it("takes its id out again when the page comes back from the cache of pages", async () => {
    const tab = new Kept();
    const { signal, clock } = withoutId(tab);
    await clock.advance(0);
    signal("left");
    expect(tab.items.size).toBe(1);
    signal("resumed");
    expect(tab.items.size).toBe(0);
  });

  it("hears nothing of the page any more once it is closed", () => {
    const tab = new Kept();
    const { signal, connection } = withoutId(tab);
    connection.close();
    signal("left");
    expect(tab.items.size).toBe(0);
  });
});
