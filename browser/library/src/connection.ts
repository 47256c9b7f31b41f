/** A live connection, as its user sees it. */

import type { ConnectionEndedError } from "./errors.ts";
import type {
  Connected,
  ConnectionStatus,
  Order,
  Position,
  Quality,
  SessionInfo,
  SimulatorStatus,
  StartedSimulator,
  TransportKind,
} from "./events.ts";
import type { View } from "./exchangeView.ts";
import type { OrderRequest, StartRequest } from "./frames.ts";
import type { RestClient } from "./rest.ts";
import type { Statistics } from "./statistics.ts";

/** `timeoutMs`: reconnections included; `requestId`: 1–64 characters, made where none is given. */
export interface CommandOptions {
  readonly timeoutMs?: number;
  readonly requestId?: string;
}

/**
 * Made by `connect`; it connects by itself, and keeps at it until `close` is called or the service says that it is over.
 *
 * Every command resolves with its answer, and is sent again over the next connection until there is one. It rejects
 * with ServiceError (the service said no), CommandTimeoutError (no answer in time, outcome unknown) or
 * ConnectionEndedError.
 */
export interface Connection {
  readonly clientId: string;
  readonly deviceId: string;
  /** Null until the first connection. */
  readonly sessionId: string | null;
  readonly status: ConnectionStatus;
  /** What the service said when the present (or last) connection was opened; null before the first. */
  readonly connected: Connected | null;
  /** Of the present (or last) connection. */
  readonly transport: TransportKind | null;
  readonly simulator: SimulatorStatus | null;
  readonly quality: Quality;
  /** The state after the last frame. */
  readonly view: View;
  readonly position: Position | null;
  readonly statistics: Statistics;
  /** The REST calls, over the same addresses and tokens. */
  readonly rest: RestClient;
  /** Why there is no connection any more; null while there is one, or will be again. */
  readonly end: ConnectionEndedError | null;
  /** Resolves when the connection is over for good. */
  readonly ended: Promise<ConnectionEndedError>;
  /** Resolves with the first connection; rejects with ConnectionEndedError where there will be none. */
  readonly opened: Promise<Connected>;

  /** Start one, or find the live one. It takes orders once `onSimulatorStatus` says `RUNNING`. */
  startSimulator(request?: StartRequest, options?: CommandOptions): Promise<StartedSimulator>;
  /** Its status from now on. */
  stopSimulator(options?: CommandOptions): Promise<string>;
  /**
   * Placed once, over however many connections it is sent: after a CommandTimeoutError call it again with the same
   * `requestId`. A rejected order is an answer: `status` `REJECTED`.
   */
  submitOrder(order: OrderRequest, options?: CommandOptions): Promise<Order>;
  /** Sent again after a lost connection: `ORDER_NOT_CANCELABLE` may then mean that the first one did it. */
  cancelOrder(orderId: string, options?: CommandOptions): Promise<Order>;
  /** Exchange data of these symbols only; none means all. A snapshot follows; later connections ask for the same. */
  subscribe(symbols: readonly string[], options?: CommandOptions): Promise<void>;
  requestSession(options?: CommandOptions): Promise<SessionInfo>;
  /** Ask for a snapshot; it follows as data. */
  requestFullRefresh(options?: CommandOptions): Promise<void>;
  /** End the session itself, by REST; whether a simulator was stopped. The connection ends with it. */
  endSession(): Promise<boolean>;

  /** Ask `getToken` now, and hand its token to the service. Rejects with what it rejects with. */
  refreshToken(): Promise<void>;
  /** Look at once whether the connection lives, and try at once where there is none: after a sleep, for example. */
  check(): void;
  /** Lose the present connection as a network does, to try what happens then. */
  dropConnection(): void;
  /** Leave with 1000. Commands that wait reject with ConnectionEndedError `CLIENT_CLOSED`. Idempotent. */
  close(): void;
}
