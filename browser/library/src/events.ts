/** What a connection tells its user, and the nouns in it. Sizes and prices are as the service sends them. */

/** How far a client has come (docs/exchange-data.md): compare `epoch` for equality only. Both are below 2^53. */
export interface Position {
  readonly epoch: number;
  readonly sequence: number;
}

export interface Quote {
  readonly symbol: string;
  readonly bid: number;
  readonly ask: number;
  readonly bidSize: number;
  readonly askSize: number;
  readonly lastPrice: number;
  readonly lastSize: number;
}

/** `sequence`: the number of the update that it came with; `reason`: why it was rejected. */
export interface OrderUpdate {
  readonly orderId: string;
  readonly symbol: string;
  readonly status: string;
  readonly filledQuantity: number;
  readonly averagePrice: number;
  readonly sequence: number;
  readonly reason?: string;
}

export interface Holding {
  readonly symbol: string;
  readonly quantity: number;
  readonly averageCost: number;
  readonly marketValue: number;
}

export interface Portfolio {
  readonly positions: readonly Holding[];
  readonly cashBalance: number;
  readonly totalValue: number;
}

/**
 * Updates `fromSequence` … `sequence` of `epoch`. `snapshot`: it replaces everything that was before.
 *
 * Each symbol is at most once in `quotes`; `orderUpdates` are in order, each one new to this client; `portfolio` null:
 * unchanged.
 */
export interface ExchangeData extends Position {
  readonly fromSequence: number;
  readonly snapshot: boolean;
  /** The exchange's clock, in milliseconds since 1970. */
  readonly timestampMs: number;
  readonly quotes: readonly Quote[];
  readonly orderUpdates: readonly OrderUpdate[];
  readonly portfolio: Portfolio | null;
}

export type TransportKind = "websocket" | "sse";
export type Quality = "GOOD" | "DEGRADED" | "POOR";
export type SimulatorState = "NONE" | "CREATING" | "STARTING" | "RUNNING" | "STOPPING" | "STOPPED" | "ERROR";

/**
 * A connection is there and the service has said where it continues.
 *
 * `attempt` is 0 at first. `resumed`: exactly what follows the client's position comes; else a snapshot, where there is
 * a simulator. `expiresAt` is RFC 3339.
 */
export interface Connected {
  readonly sessionId: string;
  readonly clientId: string;
  readonly deviceId: string;
  readonly attempt: number;
  readonly url: string;
  readonly transport: TransportKind;
  readonly podName: string;
  readonly isNew: boolean;
  readonly resumed: boolean;
  readonly position: Position | null;
  readonly simulatorStatus: SimulatorState;
  readonly heartbeatIntervalMs: number;
  readonly expiresAt: string;
}

/**
 * Why there is a new connection: the old one was lost, or its pod goes; in the place of an event stream also since
 * WebSockets got through, since its token expires, or since a snapshot or another filter was asked for.
 */
export type ReconnectCause = "lost" | "pod_terminating" | "transport" | "token" | "refresh";

/** `pauseMs`: without a connection; 0 for a move in which the old one was kept until the new one was there. */
export interface Reconnected extends Connected {
  readonly pauseMs: number;
  readonly cause: ReconnectCause;
}

/**
 * - `connecting`: the first connection is being made;
 * - `open`: there is one;
 * - `reconnecting`: there is none, and the next try comes in `retryInMs`;
 * - `closed`: there is none, and there will be none; `onEnd` says why.
 *
 * `reason`: in words, empty where all is well; `closeCode` null: there was none (a refused upgrade, a lost network).
 */
export interface ConnectionStatus {
  readonly state: "connecting" | "open" | "reconnecting" | "closed";
  readonly reason: string;
  readonly closeCode: number | null;
  readonly retryInMs: number | null;
}

/** `queuePosition`: its place among those that wait to be created, 1 is next; null: it does not wait. */
export interface SimulatorStatus {
  readonly simulatorId: string | null;
  readonly status: SimulatorState;
  readonly reason: string | null;
  readonly queuePosition: number | null;
}

/** The pod goes; the client moves by itself in `reconnectAfterMs`. */
export interface PodTerminating {
  readonly podName: string;
  readonly reconnectAfterMs: number;
  readonly deadlineMs: number;
  readonly reason: string;
}

/** The service's judgement, and the round trip of the last heartbeat (null before the first). */
export interface QualityChanged {
  readonly quality: Quality;
  readonly reconnectRecommended: boolean;
  readonly roundTripMs: number | null;
}

/**
 * A frame broke the sequence rule. It was not applied, and a snapshot was asked for.
 *
 * `expected` is the number that had to come next; null where only a snapshot could.
 */
export interface SequenceViolated {
  readonly kind: "GAP" | "DUPLICATE" | "WRONG_EPOCH" | "MALFORMED";
  readonly epoch: number;
  readonly fromSequence: number;
  readonly sequence: number;
  readonly expected: number | null;
}

/** An `error` frame that answers no command, or a frame that cannot be read; the connection stays. */
export interface ServiceNotice {
  readonly code: string;
  readonly message: string;
}

/** The session as the service knows it. Instants are RFC 3339. */
export interface SessionInfo {
  readonly sessionId: string;
  readonly userId: string;
  readonly status: string;
  readonly deviceId: string | null;
  readonly createdAt: string;
  readonly expiresAt: string;
  readonly simulatorId: string | null;
  readonly simulatorStatus: SimulatorState;
}

/** `simulatorId` null: the service did not say. */
export interface StartedSimulator {
  readonly simulatorId: string | null;
  readonly status: SimulatorState;
}

/** `status` is `REJECTED` where the exchange refused it; `reason` says why. A rejection is an answer, no error. */
export interface Order {
  readonly orderId: string;
  readonly status: string;
  readonly filledQuantity: number;
  readonly averagePrice: number;
  readonly symbol: string | null;
  readonly reason: string | null;
}
