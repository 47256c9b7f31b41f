/** What `connect` takes. */

import type { ConnectionEndedError } from "./errors.ts";
import type {
  ConnectionStatus,
  ExchangeData,
  PodTerminating,
  QualityChanged,
  Reconnected,
  SequenceViolated,
  ServiceNotice,
  SessionInfo,
  SimulatorStatus,
} from "./events.ts";
import type { Platform } from "./platform.ts";

/**
 * Why a token is asked for: a connection is opened, the present one expires soon, the one just given has expired
 * already, or a REST call is made.
 */
export type TokenReason = "connect" | "refresh" | "expired" | "rest";

/** A JWT. It should come from a cache where that one is fresh; one that throws is asked again with the next try. */
export type GetToken = (why: TokenReason) => string | Promise<string>;

/** In milliseconds. */
export interface Timing {
  /** For one try, from TCP to `connected`. */
  readonly openTimeoutMs: number;
  /** Without any frame while a simulator is running, until the connection is given up. */
  readonly silenceLimitMs: number;
  /** For a command, reconnections included; each command takes its own. */
  readonly commandTimeoutMs: number;
  /** For one REST call. */
  readonly restTimeoutMs: number;
  /** Between two tries. */
  readonly maxPauseMs: number;
}

/** Each is called as it happens, in order, and must return soon; what it throws is reported as an uncaught error. */
export interface Listeners {
  /** New data, already applied to `connection.view`. */
  readonly onExchangeData?: (data: ExchangeData) => void;
  readonly onStatus?: (status: ConnectionStatus) => void;
  /** Also with each connection, as the service knows it then. */
  readonly onSimulatorStatus?: (status: SimulatorStatus) => void;
  /** The answer to `requestSession`. */
  readonly onSessionInfo?: (info: SessionInfo) => void;
  /** A number is missing, or the epoch or the range is wrong; a full refresh is under way. */
  readonly onGap?: (violation: SequenceViolated) => void;
  /** A number came twice on one connection; it was not applied, and a full refresh is under way. */
  readonly onDuplicate?: (violation: SequenceViolated) => void;
  readonly onReconnected?: (reconnected: Reconnected) => void;
  /** The judgement changed, or a heartbeat brought a new round trip. */
  readonly onQuality?: (quality: QualityChanged) => void;
  readonly onPodTerminating?: (terminating: PodTerminating) => void;
  /** Once: the connection is over for good, and why. Not after `close()`. */
  readonly onEnd?: (end: ConnectionEndedError) => void;
  /** An error that ends nothing. */
  readonly onError?: (notice: ServiceNotice) => void;
}

export interface ConnectOptions extends Listeners {
  /** A base address, or several: pods, or addresses of one service. `http(s)` and `ws(s)` alike; may be relative. */
  readonly url: string | readonly string[];
  /** The device's stable name, 1–255 characters. */
  readonly deviceId: string;
  readonly getToken: GetToken;
  /** A session of the caller and this device; else that of the device, made if there is none. */
  readonly sessionId?: string;
  /** 1–64 characters; one for each connection that is open at the same time. Made where none is given. */
  readonly clientId?: string;
  /**
   * Where to keep the client's id between two loads of a page: `sessionStorage`. A duplicated tab gets an id of its
   * own. Without it each load of the page is a new client.
   */
  readonly keepClientIdIn?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  /** Exchange data of these only; empty: all. */
  readonly symbols?: readonly string[];
  /** `auto`: WebSockets, and server-sent events where these do not get through. */
  readonly transport?: "auto" | "websocket" | "sse";
  readonly timing?: Partial<Timing>;
  /** What stands in the place of the browser's own, for tests and other surroundings. */
  readonly platform?: Partial<Platform>;
}
