/** The REST calls, repeated at the next address where that is safe. */

import type { TokenSource } from "./accessToken.ts";
import { DecorrelatedJitter } from "./backoff.ts";
import { newId } from "./clientIdentity.ts";
import type { Endpoints } from "./endpoints.ts";
import { ServiceError, TransportError } from "./errors.ts";
import type { Order, SimulatorState, StartedSimulator } from "./events.ts";
import type { OrderRequest, StartRequest } from "./frames.ts";
import type { Clock } from "./platform.ts";
import type { OpenedSession, RestClient, Session, Simulator } from "./rest.ts";
import { type Answer, callOnce, type RestCall } from "./restCall.ts";

/** One try at one address; the service's own longest answer takes 3 s. */
const TRY_LIMIT_MS = 5_000;
const MIN_TRY_LIMIT_MS = 100;
/** The pod refused before it looked at the call: repeating it elsewhere is safe, whatever it asks for. */
const NOT_TAKEN = new Set(["POD_TERMINATING", "OVERLOADED"]);

export interface RestParts {
  readonly fetch: typeof globalThis.fetch;
  readonly clock: Clock;
  readonly random: () => number;
  readonly endpoints: Endpoints;
  readonly tokens: TokenSource;
  readonly timeoutMs: number;
  /** One try, whatever comes of it. */
  readonly once?: boolean;
}

interface Repeatable extends RestCall {
  readonly repeatable: boolean;
}

export class FetchRestClient implements RestClient {
  readonly #parts: RestParts;

  constructor(parts: RestParts) {
    this.#parts = parts;
  }

  // --- sessions

  async openSession(deviceId: string): Promise<OpenedSession> {
    const answer = await this.#call({ method: "POST", path: "/api/sessions", body: { deviceId }, repeatable: true });
    return {
      sessionId: text(answer, "sessionId"),
      isNew: answer.isNew === true,
      status: text(answer, "status"),
      expiresAt: text(answer, "expiresAt"),
      podName: text(answer, "podName"),
    };
  }

  async listSessions(): Promise<readonly Session[]> {
    const answer = await this.#get("/api/sessions");
    return list(answer, "sessions").map(readSession);
  }

  async getSession(sessionId: string): Promise<Session> {
    return readSession((await this.#get(`/api/sessions/${part(sessionId)}`)).session);
  }

  async keepalive(sessionId: string): Promise<string> {
    const path = `/api/sessions/${part(sessionId)}/keepalive`;
    return text(await this.#call({ method: "POST", path, repeatable: true }), "expiresAt");
  }

  async endSession(sessionId: string): Promise<boolean> {
    const path = `/api/sessions/${part(sessionId)}`;
    return (await this.#call({ method: "DELETE", path, repeatable: false })).simulatorStopped === true;
  }

  async endSessions(deviceId?: string): Promise<readonly string[]> {
    const path = `/api/sessions${deviceId === undefined ? "" : `?${new URLSearchParams({ deviceId })}`}`;
    return list(await this.#call({ method: "DELETE", path, repeatable: true }), "sessionIds").map(String);
  }

  // --- simulators

  async startSimulator(sessionId?: string, request: StartRequest = {}): Promise<StartedSimulator> {
    const body = { ...request, ...(sessionId === undefined ? {} : { sessionId }) };
    return readStarted(await this.#call({ method: "POST", path: "/api/simulators", body, repeatable: true }));
  }

  async findSimulator(sessionId: string): Promise<Simulator | null> {
    const { simulator } = await this.#get(`/api/simulators?${new URLSearchParams({ sessionId })}`);
    return simulator === null ? null : readSimulator(simulator);
  }

  async getSimulator(simulatorId: string): Promise<Simulator> {
    return readSimulator((await this.#get(`/api/simulators/${part(simulatorId)}`)).simulator);
  }

  async stopSimulator(simulatorId: string): Promise<string> {
    const path = `/api/simulators/${part(simulatorId)}`;
    return text(await this.#call({ method: "DELETE", path, repeatable: true }), "status");
  }

  // --- orders

  async submitOrder(simulatorId: string, order: OrderRequest, requestId = newId()): Promise<Order> {
    const path = `/api/simulators/${part(simulatorId)}/orders`;
    return readOrder(
      await this.#call({ method: "POST", path, body: { ...orderFields(order), requestId }, repeatable: true }),
    );
  }

  async listOrders(simulatorId: string): Promise<readonly Order[]> {
    return list(await this.#get(`/api/simulators/${part(simulatorId)}/orders`), "orders").map(readOrder);
  }

  async getOrder(simulatorId: string, orderId: string): Promise<Order> {
    return readOrder(await this.#get(`/api/simulators/${part(simulatorId)}/orders/${part(orderId)}`));
  }

  async cancelOrder(simulatorId: string, orderId: string): Promise<Order> {
    const path = `/api/simulators/${part(simulatorId)}/orders/${part(orderId)}`;
    return readOrder(await this.#call({ method: "DELETE", path, repeatable: false }));
  }

  // --- the call

  #get(path: string): Promise<Answer> {
    return this.#call({ method: "GET", path, repeatable: true });
  }

  async #call(call: Repeatable): Promise<Answer> {
    const { fetch, clock, random, endpoints, tokens, timeoutMs, once = false } = this.#parts;
    const deadlineMs = clock.nowMs() + timeoutMs;
    const pauses = new DecorrelatedJitter(random, { firstMs: 100, baseMs: 200, capMs: 2_000, short: endpoints.size });
    for (;;) {
      const { url, waitMs } = endpoints.choose(clock.nowMs());
      if (waitMs > 0) await pause(clock, Math.min(waitMs, Math.max(0, deadlineMs - clock.nowMs())));
      const token = await tokens.get("rest");
      const limitMs = Math.min(TRY_LIMIT_MS, Math.max(MIN_TRY_LIMIT_MS, deadlineMs - clock.nowMs()));
      try {
        return await callOnce(fetch, clock, url, token, call, limitMs);
      } catch (error) {
        const notBeforeMs = once ? null : afterFailure(error, call.repeatable, clock.nowMs());
        if (notBeforeMs === null) throw error;
        endpoints.leave(url, notBeforeMs);
        const pauseMs = pauses.nextMs();
        if (clock.nowMs() + pauseMs + endpoints.choose(clock.nowMs()).waitMs >= deadlineMs) throw error;
        await pause(clock, pauseMs);
      }
    }
  }
}

/** When this address may be asked again; null: the call must not be repeated. */
function afterFailure(error: unknown, repeatable: boolean, nowMs: number): number | null {
  if (error instanceof ServiceError && error.status === 503) {
    return repeatable || NOT_TAKEN.has(error.code) ? nowMs + (error.retryAfterMs ?? 0) : null;
  }
  return error instanceof TransportError && repeatable ? 0 : null;
}

function pause(clock: Clock, pauseMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(pauseMs, resolve);
  });
}

// --- answers

/** What of an order goes out: `orderType` is always said. */
export function orderFields({ symbol, side, quantity, orderType = "MARKET", price }: OrderRequest) {
  return { symbol, side, quantity, orderType, ...(price === undefined ? {} : { price }) };
}

export function readOrder(answer: unknown): Order {
  const one = answerOf(answer);
  return {
    orderId: text(one, "orderId"),
    status: text(one, "status"),
    filledQuantity: numberOr0(one.filledQuantity),
    averagePrice: numberOr0(one.averagePrice),
    symbol: textOrNull(one.symbol),
    reason: textOrNull(one.reason),
  };
}

export function readStarted(answer: unknown): StartedSimulator {
  const one = answerOf(answer);
  return { simulatorId: textOrNull(one.simulatorId), status: text(one, "status") as SimulatorState };
}

function readSession(answer: unknown): Session {
  const one = answerOf(answer);
  return {
    sessionId: text(one, "session_id"),
    userId: text(one, "user_id"),
    status: text(one, "status"),
    deviceId: textOrNull(one.device_id),
    createdAt: text(one, "created_at"),
    lastActive: text(one, "last_active"),
    expiresAt: text(one, "expires_at"),
    fields: one,
  };
}

function readSimulator(answer: unknown): Simulator {
  const one = answerOf(answer);
  return {
    simulatorId: text(one, "simulatorId"),
    sessionId: text(one, "sessionId"),
    status: text(one, "status") as SimulatorState,
    reason: textOrNull(one.reason),
    createdAt: text(one, "createdAt"),
    lastActive: text(one, "lastActive"),
    initialSymbols: list(one, "initialSymbols").map(String),
    initialCash: numberOr0(one.initialCash),
    uptimeSeconds: numberOr0(one.uptimeSeconds),
  };
}

function answerOf(value: unknown): Answer {
  if (typeof value !== "object" || value === null) throw new ServiceError("UNKNOWN", "an answer of another shape");
  return value as Answer;
}

function text(answer: Answer, name: string): string {
  const value = answer[name];
  if (typeof value !== "string") throw new ServiceError("UNKNOWN", `an answer without ${name}`);
  return value;
}

function list(answer: Answer, name: string): readonly unknown[] {
  const value = answer[name];
  if (!Array.isArray(value)) throw new ServiceError("UNKNOWN", `an answer without ${name}`);
  return value;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function numberOr0(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function part(id: string): string {
  return encodeURIComponent(id);
}
