/** The REST calls of a client (docs/rest.md), over one or several base addresses. */

import type { Order, SimulatorState, StartedSimulator } from "./events.ts";
import type { OrderRequest, StartRequest } from "./frames.ts";

/** Instants are RFC 3339, as all here. */
export interface OpenedSession {
  readonly sessionId: string;
  readonly isNew: boolean;
  readonly status: string;
  readonly expiresAt: string;
  readonly podName: string;
}

/** `fields`: the whole session object, metadata included, snake_case as the service writes it. */
export interface Session {
  readonly sessionId: string;
  readonly userId: string;
  readonly status: string;
  readonly deviceId: string | null;
  readonly createdAt: string;
  readonly lastActive: string;
  readonly expiresAt: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Simulator {
  readonly simulatorId: string;
  readonly sessionId: string;
  readonly status: SimulatorState;
  readonly reason: string | null;
  readonly createdAt: string;
  readonly lastActive: string;
  readonly initialSymbols: readonly string[];
  readonly initialCash: number;
  readonly uptimeSeconds: number;
}

/**
 * Each call rejects with ServiceError for an answer that is no success, with TransportError where none came. Calls that
 * are safe to repeat are repeated at the next address until `restTimeoutMs` has passed.
 */
export interface RestClient {
  openSession(deviceId: string): Promise<OpenedSession>;
  listSessions(): Promise<readonly Session[]>;
  getSession(sessionId: string): Promise<Session>;
  /** The new `expiresAt`. */
  keepalive(sessionId: string): Promise<string>;
  /** Whether its simulator was stopped. Not repeated: where no answer came, a second call may get a 404. */
  endSession(sessionId: string): Promise<boolean>;
  /** End the session of this device, or all of the user's; the ids of those that there were. */
  endSessions(deviceId?: string): Promise<readonly string[]>;
  /** Start one, or find the live one. Without `sessionId`: that of the user's only session. */
  startSimulator(sessionId?: string, request?: StartRequest): Promise<StartedSimulator>;
  /** The session's simulator; null where it has none. */
  findSimulator(sessionId: string): Promise<Simulator | null>;
  getSimulator(simulatorId: string): Promise<Simulator>;
  /** Its status from now on. */
  stopSimulator(simulatorId: string): Promise<string>;
  /** `requestId` (1–64 characters): one is made where none is given; the same one places no second order. */
  submitOrder(simulatorId: string, order: OrderRequest, requestId?: string): Promise<Order>;
  /** Open ones first. */
  listOrders(simulatorId: string): Promise<readonly Order[]>;
  getOrder(simulatorId: string, orderId: string): Promise<Order>;
  /** Not repeated where it may have been carried out: a second cancellation is refused. */
  cancelOrder(simulatorId: string, orderId: string): Promise<Order>;
}
