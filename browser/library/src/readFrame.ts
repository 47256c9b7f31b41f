/** Reading the service's frames (docs/protocol.md#server--client). Pure. */

import type { ExchangeData } from "./events.ts";
import type { ExchangeDataFrame, ServerFrame } from "./frames.ts";

/** A frame that cannot be read. `type` null: not even that. */
export interface UnreadableFrame {
  readonly type: "unreadable";
  readonly of: string | null;
}

type Check = (value: unknown) => boolean;
type Fields = Readonly<Record<string, Check>>;

const text: Check = (value) => typeof value === "string";
const number: Check = (value) => typeof value === "number";
const flag: Check = (value) => typeof value === "boolean";
const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const texts: Check = (value) => Array.isArray(value) && value.every(text);
const object: Check = isObject;

function orNull(check: Check): Check {
  return (value) => value === null || check(value);
}

function optional(check: Check): Check {
  return (value) => value === undefined || value === null || check(value);
}

/** Every type but `exchange_data`, which is the one that comes often. States and codes may be of a later service. */
const FIELDS: Readonly<Record<Exclude<ServerFrame["type"], "exchange_data">, Fields>> = {
  connected: {
    clientId: text,
    deviceId: orNull(text),
    sessionId: text,
    isNew: flag,
    podName: text,
    epoch: orNull(count),
    sequence: orNull(count),
    resumed: flag,
    simulatorStatus: text,
    heartbeatIntervalMs: (value) => typeof value === "number" && value > 0,
    expiresAt: text,
    limits: object,
  },
  heartbeat_ack: {
    clientTimestamp: number,
    deviceId: text,
    deviceIdValid: flag,
    sessionStatus: text,
    simulatorStatus: text,
    connectionQuality: text,
    reconnectRecommended: flag,
  },
  reconnect_result: {
    requestId: text,
    success: flag,
    message: text,
    deviceId: text,
    deviceIdValid: flag,
    sessionStatus: text,
    simulatorStatus: text,
    resumed: flag,
  },
  simulator_status: {
    simulatorId: orNull(text),
    status: text,
    reason: optional(text),
    queuePosition: optional(count),
  },
  session_info: {
    requestId: text,
    sessionId: text,
    userId: text,
    status: text,
    deviceId: orNull(text),
    createdAt: text,
    expiresAt: text,
    simulatorId: orNull(text),
    simulatorStatus: text,
  },
  result: {
    requestId: text,
    success: flag,
    code: optional(text),
    error: optional(text),
    field: optional(text),
    reason: optional(text),
    simulatorId: optional(text),
    status: optional(text),
    orderId: optional(text),
    filledQuantity: optional(number),
    averagePrice: optional(number),
    symbols: optional(texts),
  },
  connection_quality_update: { quality: text, reconnectRecommended: flag },
  pod_terminating: { reconnectAfterMs: count, deadlineMs: count, reason: text },
  session_ended: { reason: text },
  connection_replaced: { reason: text },
  error: { errorCode: text, message: text, requestId: optional(text), details: optional(object) },
};

/** Null: a type that this library does not know, to be passed over. Never throws. */
export function readFrame(raw: string): ServerFrame | UnreadableFrame | null {
  let frame: unknown;
  try {
    frame = JSON.parse(raw);
  } catch {
    return { type: "unreadable", of: null };
  }
  if (!isObject(frame) || typeof frame.type !== "string") return { type: "unreadable", of: null };
  const type = frame.type;
  if (type === "exchange_data") {
    return isExchangeData(frame) ? (frame as unknown as ServerFrame) : { type: "unreadable", of: type };
  }
  if (!Object.hasOwn(FIELDS, type)) return null;
  const fields = FIELDS[type as keyof typeof FIELDS];
  for (const name in fields) {
    if (!(fields[name] as Check)(frame[name])) return { type: "unreadable", of: type };
  }
  return frame as unknown as ServerFrame;
}

/** The frame as its reader is told of it. */
export function exchangeData({ epoch, fromSequence, sequence, snapshot, data }: ExchangeDataFrame): ExchangeData {
  return {
    epoch,
    fromSequence,
    sequence,
    snapshot,
    timestampMs: data.timestamp,
    quotes: data.marketData,
    orderUpdates: data.orderUpdates,
    portfolio: data.portfolio,
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isExchangeData(frame: Record<string, unknown>): boolean {
  const data = frame.data;
  return (
    count(frame.epoch) &&
    count(frame.fromSequence) &&
    count(frame.sequence) &&
    typeof frame.snapshot === "boolean" &&
    isObject(data) &&
    typeof data.timestamp === "number" &&
    isListOf(data.marketData, isQuote) &&
    isListOf(data.orderUpdates, isOrderUpdate) &&
    (data.portfolio === null || isPortfolio(data.portfolio))
  );
}

function isListOf(value: unknown, check: (one: Record<string, unknown>) => boolean): boolean {
  if (!Array.isArray(value)) return false;
  for (const one of value) if (!isObject(one) || !check(one)) return false;
  return true;
}

function isQuote(one: Record<string, unknown>): boolean {
  return (
    typeof one.symbol === "string" &&
    typeof one.bid === "number" &&
    typeof one.ask === "number" &&
    typeof one.bidSize === "number" &&
    typeof one.askSize === "number" &&
    typeof one.lastPrice === "number" &&
    typeof one.lastSize === "number"
  );
}

function isOrderUpdate(one: Record<string, unknown>): boolean {
  return (
    typeof one.orderId === "string" &&
    typeof one.symbol === "string" &&
    typeof one.status === "string" &&
    typeof one.filledQuantity === "number" &&
    typeof one.averagePrice === "number" &&
    count(one.sequence) &&
    (one.reason === undefined || one.reason === null || typeof one.reason === "string")
  );
}

function isPortfolio(value: unknown): boolean {
  return (
    isObject(value) &&
    isListOf(value.positions, isHolding) &&
    typeof value.cashBalance === "number" &&
    typeof value.totalValue === "number"
  );
}

function isHolding(one: Record<string, unknown>): boolean {
  return (
    typeof one.symbol === "string" &&
    typeof one.quantity === "number" &&
    typeof one.averageCost === "number" &&
    typeof one.marketValue === "number"
  );
}
