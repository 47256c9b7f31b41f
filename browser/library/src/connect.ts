/** The two ways in: a connection, and the REST calls alone. The parts are put together here and nowhere else. */

import { TokenSource } from "./accessToken.ts";
import { baseAddress } from "./addresses.ts";
import { withBrowserParts } from "./browserPlatform.ts";
import { ClientConnection } from "./clientConnection.ts";
import { ClientIdentity, newId, putBackIdentity, takeIdentity } from "./clientIdentity.ts";
import { Commands } from "./commands.ts";
import type { Connection } from "./connection.ts";
import { Endpoints } from "./endpoints.ts";
import { openEventStream } from "./eventStreamChannel.ts";
import { ExchangeView } from "./exchangeView.ts";
import type { ConnectOptions, GetToken, Timing } from "./options.ts";
import type { Platform } from "./platform.ts";
import type { RestClient } from "./rest.ts";
import { FetchRestClient } from "./restClient.ts";
import { newCounters } from "./statistics.ts";
import { TransportChoice } from "./transportChoice.ts";
import { openWebSocket } from "./webSocketChannel.ts";

const DEFAULT_TIMING: Timing = {
  openTimeoutMs: 5_000,
  silenceLimitMs: 5_000,
  commandTimeoutMs: 10_000,
  restTimeoutMs: 10_000,
  maxPauseMs: 10_000,
};
/** To learn why an upgrade failed; the next try waits for it. */
const EXPLAIN_LIMIT_MS = 2_000;
const MAX_DEVICE_ID_LENGTH = 255;
const MAX_CLIENT_ID_LENGTH = 64;

export interface RestOptions {
  readonly url: string | readonly string[];
  readonly getToken: GetToken;
  /** For one call, repetitions included; 10,000 where it is not given. */
  readonly restTimeoutMs?: number;
  readonly platform?: Partial<Platform>;
}

/** Connects at once, and stays connected. Throws TypeError for options that cannot be right. */
export function connect(options: ConnectOptions): Connection {
  const platform = withBrowserParts(options.platform);
  const { clock, random } = platform;
  const timing = { ...DEFAULT_TIMING, ...options.timing };
  const urls = addresses(options.url);
  const identity = identify(options);
  const tokens = new TokenSource(options.getToken, clock);
  // Shared: where the connection was lost, REST need not find that out once more, and the other way round.
  const endpoints = new Endpoints(urls);
  const restParts = { fetch: fetchOf(platform), clock, random, tokens };
  const connection = new ClientConnection(
    {
      clock,
      random,
      tokens,
      identity,
      timing,
      endpoints,
      choice: new TransportChoice(transportOf(options, platform)),
      view: new ExchangeView(),
      commands: new Commands(),
      counters: newCounters(),
      listeners: options,
      rest: new FetchRestClient({ ...restParts, endpoints, timeoutMs: timing.restTimeoutMs }),
      explainBy: (url) =>
        new FetchRestClient({
          ...restParts,
          endpoints: new Endpoints([url]),
          timeoutMs: EXPLAIN_LIMIT_MS,
          once: true,
        }),
      openWebSocket: (request, listener) => openWebSocket(socketOf(platform), request, listener),
      openEventStream: (request, listener) => openEventStream(fetchOf(platform), request, listener),
      silenceLimitMs: timing.silenceLimitMs,
    },
    { sessionId: options.sessionId ?? null, symbols: [...(options.symbols ?? [])] },
    () => stopListening(),
  );
  const stopListening = platform.pageSignals((signal) => {
    if (signal === "left") keep(options, identity);
    else {
      if (signal === "resumed") takeAgain(options, identity);
      connection.check();
    }
  });
  return connection;
}

/** The REST calls alone, for a page that has no connection yet. Throws TypeError for options that cannot be right. */
export function createRestClient({ url, getToken, restTimeoutMs, platform: given }: RestOptions): RestClient {
  const platform = withBrowserParts(given);
  const { clock, random } = platform;
  return new FetchRestClient({
    fetch: fetchOf(platform),
    clock,
    random,
    endpoints: new Endpoints(addresses(url)),
    tokens: new TokenSource(getToken, clock),
    timeoutMs: restTimeoutMs ?? DEFAULT_TIMING.restTimeoutMs,
  });
}

function addresses(url: string | readonly string[]): readonly string[] {
  const page = typeof location === "undefined" ? undefined : location.href;
  return (typeof url === "string" ? [url] : url).map((one) => baseAddress(one, page));
}

function transportOf(
  { transport = "auto" }: ConnectOptions,
  { socket, fetch }: Platform,
): "auto" | "websocket" | "sse" {
  if (socket === null && (transport === "websocket" || fetch === null))
    throw new TypeError("there are no WebSockets");
  if (transport === "auto" && socket === null) return "sse";
  return transport === "auto" && fetch === null ? "websocket" : transport;
}

function socketOf({ socket }: Platform): NonNullable<Platform["socket"]> {
  if (socket === null) throw new TypeError("there are no WebSockets");
  return socket;
}

function fetchOf({ fetch }: Platform): NonNullable<Platform["fetch"]> {
  return fetch ?? (() => Promise.reject(new TypeError("there is no fetch")));
}

// --- the client's identity

function identify(options: ConnectOptions): ClientIdentity {
  const { deviceId, clientId, keepClientIdIn } = options;
  checkLength("deviceId", deviceId, MAX_DEVICE_ID_LENGTH);
  if (clientId !== undefined) {
    checkLength("clientId", clientId, MAX_CLIENT_ID_LENGTH);
    return new ClientIdentity(deviceId, clientId);
  }
  const kept = keepClientIdIn === undefined ? null : takeIdentity(keepClientIdIn, deviceId);
  return kept ?? new ClientIdentity(deviceId, newId());
}

function keep({ keepClientIdIn }: ConnectOptions, identity: ClientIdentity): void {
  if (keepClientIdIn !== undefined) putBackIdentity(keepClientIdIn, identity);
}

/** The page comes out of the cache of pages: it may have put its identity back when it was left. */
function takeAgain({ keepClientIdIn, deviceId }: ConnectOptions, identity: ClientIdentity): void {
  if (keepClientIdIn === undefined) return;
  const kept = takeIdentity(keepClientIdIn, deviceId);
  if (kept?.clientId === identity.clientId) identity.attempt = Math.max(identity.attempt, kept.attempt);
}

function checkLength(name: string, text: string, most: number): void {
  if (text.length < 1 || text.length > most) throw new TypeError(`${name}: must have 1 to ${most} characters`);
}
