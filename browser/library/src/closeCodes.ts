/** What follows a lost connection or a refused one (docs/protocol.md#close-codes). Pure. */

export const CLOSED_OK = 1000;
/** RFC 6455 §7.1.5: there was no close frame. */
export const ABNORMAL_CLOSURE = 1006;
export const TOKEN_INVALID = 4501;
export const SESSION_ENDED = 4503;
export const REPLACED = 4504;
export const PROTOCOL_ERROR = 4506;

const CODES: Readonly<Record<number, string>> = {
  [TOKEN_INVALID]: "AUTHENTICATION_FAILED",
  [SESSION_ENDED]: "SESSION_ENDED",
  [REPLACED]: "CONNECTION_REPLACED",
};

const WORDS: Readonly<Record<number, string>> = {
  [TOKEN_INVALID]: "the token is refused, or has expired: sign in again",
  [SESSION_ENDED]: "the session has ended, or is not there",
  [REPLACED]: "a newer connection of this client id, or more connections of the session than are allowed",
  [PROTOCOL_ERROR]: "the service refused the connection",
};

/** Said before the end, they hold whatever the close code: an event stream has none, and a close frame may get lost. */
const FINAL_WORDS: Readonly<Record<string, number>> = { SESSION_ENDED, CONNECTION_REPLACED: REPLACED };

/** Connect again, not before `afterMs` where the service said so. */
export interface Retry {
  readonly kind: "retry";
  readonly afterMs: number | null;
}

/** Never again: the code and words for ConnectionEndedError. */
export interface Final {
  readonly kind: "final";
  readonly code: string;
  readonly reason: string;
}

export const RETRY: Retry = { kind: "retry", afterMs: null };

/** How a connection ended that the client did not leave itself. */
export interface Ending {
  /** Null: there was none (an event stream, or a lost network). */
  readonly closeCode: number | null;
  /** What the service said before it closed, where it did. */
  readonly code: string | null;
  readonly reason: string;
  /** The client itself made a later attempt: 4504 speaks of that one, even if it came to nothing. */
  readonly superseded: boolean;
}

export function mayReconnect(closeCode: number): boolean {
  return closeCode < 4500 || closeCode > 4999;
}

/** 1000 without having been asked for is a loss: the service says it to a client that has moved, and this has not. */
export function afterClose({ closeCode, code, reason, superseded }: Ending): Retry | Final {
  const said = code === null ? undefined : FINAL_WORDS[code];
  if (superseded && (closeCode === REPLACED || said === REPLACED)) return RETRY;
  if (code !== null && said !== undefined) return { kind: "final", code, reason: reason || inWords(said) };
  if (closeCode === null || mayReconnect(closeCode)) return RETRY;
  return { kind: "final", code: code ?? CODES[closeCode] ?? "PROTOCOL_ERROR", reason: reason || inWords(closeCode) };
}

/** HTTP said no, in an answer that can be read: of an event stream, or of REST when it was asked why. */
export function afterRefusal(
  status: number | null,
  code: string,
  message: string,
  retryAfterMs: number | null,
): Retry | Final {
  const passing = status === null || status >= 500 || status === 408 || status === 425 || status === 429;
  // A page of some proxy explains nothing, and may be another one next time.
  if (passing || code === "UNKNOWN") return { kind: "retry", afterMs: retryAfterMs };
  return { kind: "final", code, reason: message };
}

function inWords(closeCode: number): string {
  return WORDS[closeCode] ?? `close code ${closeCode}`;
}
