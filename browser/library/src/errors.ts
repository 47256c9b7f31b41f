/** Everything this library rejects with. None of it holds a token. */

/** The root of the tree. */
export class SessionServiceClientError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/**
 * The service answered, and said no.
 *
 * `code` is one of docs/errors.md, or `UNKNOWN` where the answer was not the service's (a proxy's page); `status` the
 * HTTP status, null for an answer over the socket; `retryAfterMs` what `Retry-After` asks for.
 */
export class ServiceError extends SessionServiceClientError {
  readonly code: string;
  readonly status: number | null;
  readonly retryAfterMs: number | null;

  constructor(code: string, message: string, details: { status?: number; retryAfterMs?: number | null } = {}) {
    super(message);
    this.code = code;
    this.status = details.status ?? null;
    this.retryAfterMs = details.retryAfterMs ?? null;
  }
}

/**
 * No answer came: no connection, a lost one, one that was too slow, or one that the page's origin may not read.
 * The call may have reached the service.
 */
export class TransportError extends SessionServiceClientError {
  readonly code = "NO_ANSWER";
}

/**
 * No answer to a command within its time, reconnections included. Its outcome is unknown: it may have been carried
 * out. An order sent again with this `requestId` is placed once.
 */
export class CommandTimeoutError extends SessionServiceClientError {
  readonly code = "COMMAND_TIMEOUT";
  readonly requestId: string;

  constructor(message: string, requestId: string) {
    super(message);
    this.requestId = requestId;
  }
}

/**
 * The live connection is over, and no reconnection would help. The outcome of a command that waited is unknown.
 *
 * `code` is one of docs/errors.md, or `SESSION_ENDED`, `CONNECTION_REPLACED`, `PROTOCOL_ERROR`, `CLIENT_CLOSED` (closed
 * by its user), `UNKNOWN` (a refusal without a reason); `closeCode` is the socket's, null where there was none.
 */
export class ConnectionEndedError extends SessionServiceClientError {
  readonly code: string;
  readonly reason: string;
  readonly closeCode: number | null;

  constructor(code: string, reason: string, closeCode: number | null = null) {
    super(`${code}: ${reason}`);
    this.code = code;
    this.reason = reason;
    this.closeCode = closeCode;
  }
}
