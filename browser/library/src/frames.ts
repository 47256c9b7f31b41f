/** The messages of interface §7 as types, camelCase as on the wire. */

import type { OrderUpdate, Portfolio, Quality, Quote, SessionInfo, SimulatorState } from "./events.ts";

// --- client → server

export interface StartRequest {
  /** 1–100 different symbols. */
  readonly initialSymbols?: readonly string[];
  readonly initialCash?: number;
}

/** `quantity`: a whole number above 0; `price` for LIMIT only. */
export interface OrderRequest {
  readonly symbol: string;
  readonly side: "BUY" | "SELL";
  readonly quantity: number;
  /** `MARKET` where it is not given. */
  readonly orderType?: "MARKET" | "LIMIT";
  readonly price?: number;
}

interface Requested {
  readonly requestId: string;
}

export interface HeartbeatMessage {
  readonly type: "heartbeat";
  /** The client's own clock, in milliseconds since 1970. */
  readonly timestamp: number;
  readonly deviceId: string;
  readonly connectionQuality?: Quality;
  readonly sequence?: number | null;
}

export interface ReconnectMessage extends Requested {
  readonly type: "reconnect";
  readonly deviceId: string;
  readonly sessionToken?: string | null;
  readonly epoch?: number;
  readonly sequence?: number;
  readonly symbols?: readonly string[];
}

export interface StartSimulatorMessage extends Requested, StartRequest {
  readonly type: "start_simulator";
}

export interface PlainCommandMessage extends Requested {
  readonly type: "stop_simulator" | "request_session" | "request_full_refresh";
}

export interface SubscribeMessage extends Requested {
  readonly type: "subscribe";
  readonly symbols: readonly string[];
}

export interface SubmitOrderMessage extends Requested, OrderRequest {
  readonly type: "submit_order";
  readonly orderType: "MARKET" | "LIMIT";
}

export interface CancelOrderMessage extends Requested {
  readonly type: "cancel_order";
  readonly orderId: string;
}

export interface ConnectionQualityMessage {
  readonly type: "connection_quality";
  readonly latencyMs: number;
  readonly missedHeartbeats: number;
  readonly connectionType?: string;
}

export interface AuthenticateMessage {
  readonly type: "authenticate";
  readonly token: string;
  readonly requestId?: string;
}

/** What waits for an answer to its `requestId`. */
export type CommandMessage =
  | ReconnectMessage
  | StartSimulatorMessage
  | PlainCommandMessage
  | SubscribeMessage
  | SubmitOrderMessage
  | CancelOrderMessage;

export type ClientMessage = CommandMessage | HeartbeatMessage | ConnectionQualityMessage | AuthenticateMessage;

// --- server → client

interface Stamped {
  /** The service's clock, in milliseconds since 1970. */
  readonly timestamp: number;
}

export interface ConnectedFrame extends Stamped {
  readonly type: "connected";
  readonly clientId: string;
  readonly deviceId: string | null;
  readonly sessionId: string;
  readonly isNew: boolean;
  readonly podName: string;
  readonly epoch: number | null;
  readonly sequence: number | null;
  readonly resumed: boolean;
  readonly simulatorStatus: SimulatorState;
  readonly heartbeatIntervalMs: number;
  readonly expiresAt: string;
  readonly limits: Readonly<Record<string, number>>;
}

export interface HeartbeatAckFrame extends Stamped {
  readonly type: "heartbeat_ack";
  readonly clientTimestamp: number;
  readonly deviceId: string;
  readonly deviceIdValid: boolean;
  readonly sessionStatus: "valid" | "invalid";
  readonly simulatorStatus: SimulatorState;
  readonly connectionQuality: Quality;
  readonly reconnectRecommended: boolean;
}

export interface ReconnectResultFrame extends Stamped {
  readonly type: "reconnect_result";
  readonly requestId: string;
  readonly success: boolean;
  readonly message: string;
  readonly deviceId: string;
  readonly deviceIdValid: boolean;
  readonly sessionStatus: "valid" | "invalid";
  readonly simulatorStatus: SimulatorState;
  readonly resumed: boolean;
}

export interface ExchangeDataFrame extends Stamped {
  readonly type: "exchange_data";
  readonly epoch: number;
  readonly fromSequence: number;
  readonly sequence: number;
  readonly snapshot: boolean;
  readonly data: {
    readonly timestamp: number;
    readonly marketData: readonly Quote[];
    readonly orderUpdates: readonly OrderUpdate[];
    readonly portfolio: Portfolio | null;
  };
}

export interface SimulatorStatusFrame extends Stamped {
  readonly type: "simulator_status";
  readonly simulatorId: string | null;
  readonly status: SimulatorState;
  readonly reason?: string;
  readonly queuePosition?: number;
}

export interface SessionInfoFrame extends Stamped, SessionInfo {
  readonly type: "session_info";
  readonly requestId: string;
}

/** Beside `success` (else `code` and `error`) the fields of the REST answer. */
export interface ResultFrame extends Stamped {
  readonly type: "result";
  readonly requestId: string;
  readonly success: boolean;
  readonly code?: string;
  readonly error?: string;
  readonly field?: string;
  readonly reason?: string;
  readonly simulatorId?: string;
  readonly status?: string;
  readonly orderId?: string;
  readonly filledQuantity?: number;
  readonly averagePrice?: number;
  readonly symbols?: readonly string[];
}

export interface ConnectionQualityUpdateFrame extends Stamped {
  readonly type: "connection_quality_update";
  readonly quality: Quality;
  readonly reconnectRecommended: boolean;
}

export interface PodTerminatingFrame extends Stamped {
  readonly type: "pod_terminating";
  readonly reconnectAfterMs: number;
  readonly deadlineMs: number;
  readonly reason: string;
}

export interface SessionEndedFrame extends Stamped {
  readonly type: "session_ended";
  readonly reason: string;
}

export interface ConnectionReplacedFrame extends Stamped {
  readonly type: "connection_replaced";
  readonly reason: string;
}

export interface ErrorFrame extends Stamped {
  readonly type: "error";
  readonly errorCode: string;
  readonly message: string;
  readonly requestId?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export type ServerFrame =
  | ConnectedFrame
  | HeartbeatAckFrame
  | ReconnectResultFrame
  | ExchangeDataFrame
  | SimulatorStatusFrame
  | SessionInfoFrame
  | ResultFrame
  | ConnectionQualityUpdateFrame
  | PodTerminatingFrame
  | SessionEndedFrame
  | ConnectionReplacedFrame
  | ErrorFrame;
