/**
 * A client of session-service for browsers: one live connection that survives lost networks, sleeping tabs and lost
 * pods, without a gap. docs/browser.md tells what it guarantees; docs/protocol.md what it speaks.
 */

export { connect, createRestClient, type RestOptions } from "./connect.ts";
export type { CommandOptions, Connection } from "./connection.ts";
export {
  CommandTimeoutError,
  ConnectionEndedError,
  ServiceError,
  SessionServiceClientError,
  TransportError,
} from "./errors.ts";
export { EventStreamReader, type StreamEvent } from "./eventStream.ts";
export type * from "./events.ts";
export type { View } from "./exchangeView.ts";
export type * from "./frames.ts";
export type { ConnectOptions, GetToken, Listeners, Timing, TokenReason } from "./options.ts";
export type { Clock, PageSignal, PageSignals, Platform, SocketFactory, SocketLike } from "./platform.ts";
export type { OpenedSession, RestClient, Session, Simulator } from "./rest.ts";
export type { Statistics } from "./statistics.ts";
