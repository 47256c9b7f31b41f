/** The user's token: where it comes from, and when it has to be renewed. It is shown by nothing here. */

import type { GetToken, TokenReason } from "./options.ts";
import type { Clock } from "./platform.ts";

const REFRESH_BEFORE_MS = 60_000;
const REFRESH_SHARE = 0.2;
/** Of the time that is left, where a refresh brought no later expiry. */
const RETRY_SHARE = 0.5;
const MIN_REFRESH_INTERVAL_MS = 1_000;
const GET_TOKEN_LIMIT_MS = 10_000;

/** `exp` of a JWT in milliseconds since 1970, null where there is none to read. The signature is not looked at. */
export function expiryMs(token: string): number | null {
  const parts = token.split(".");
  if (parts.length !== 3) return null;
  try {
    const payload: unknown = JSON.parse(decodeBase64Url(parts[1] ?? ""));
    const expiry = typeof payload === "object" && payload !== null && "exp" in payload ? payload.exp : null;
    return typeof expiry === "number" && Number.isFinite(expiry) ? expiry * 1000 : null;
  } catch {
    return null;
  }
}

/** How long until a token that is new should be renewed: 60 s or a fifth of its time before its end. */
export function refreshInMs(token: string, nowUnixMs: number): number | null {
  const expiry = expiryMs(token);
  if (expiry === null) return null;
  const leftMs = Math.max(0, expiry - nowUnixMs);
  return Math.max(MIN_REFRESH_INTERVAL_MS, leftMs - Math.min(REFRESH_BEFORE_MS, leftMs * REFRESH_SHARE));
}

/** The same where a renewal failed, or brought the same token: before the end, and never in a hurry. */
export function refreshAgainInMs(token: string, nowUnixMs: number): number {
  const expiry = expiryMs(token);
  const leftMs = expiry === null ? 0 : Math.max(0, expiry - nowUnixMs);
  return Math.max(MIN_REFRESH_INTERVAL_MS, leftMs * RETRY_SHARE);
}

/** The subprotocols that carry a token (docs/protocol.md#connecting): base64url, without padding (RFC 4648 §5). */
export function subprotocols(token: string): readonly string[] {
  const bytes = new TextEncoder().encode(token);
  const text = btoa(String.fromCharCode(...bytes));
  return ["session.v1", `bearer.${text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`];
}

/** Asks for tokens, each time within 10 s. */
export class TokenSource {
  readonly #getToken: GetToken;
  readonly #clock: Clock;
  /** How far this machine's clock is ahead of the service's, as far as is known. */
  #aheadMs = 0;

  constructor(getToken: GetToken, clock: Clock) {
    this.#getToken = getToken;
    this.#clock = clock;
  }

  /** The service's time of day: its clock decides when a token has expired, and this machine's may be hours off. */
  unixMs(): number {
    return this.#clock.unixMs() - this.#aheadMs;
  }

  /** A frame that was just sent says what time it is there; what is no number says nothing. */
  serviceTime(unixMs: number): void {
    if (Number.isFinite(unixMs)) this.#aheadMs = this.#clock.unixMs() - unixMs;
  }

  /**
   * One that has expired by the clock is asked for once more, as `expired`: a cache may have slept with the
   * page. Rejects with what `getToken` does, and with TypeError for what is no token.
   */
  async get(why: TokenReason): Promise<string> {
    const token = await this.#ask(why);
    const expiry = expiryMs(token);
    return expiry !== null && expiry <= this.unixMs() ? this.#ask("expired") : token;
  }

  async #ask(why: TokenReason): Promise<string> {
    let takeBack = (): void => {};
    const late = new Promise<never>((_resolve, reject) => {
      takeBack = this.#clock.after(GET_TOKEN_LIMIT_MS, () => reject(new Error("getToken took too long")));
    });
    try {
      const token = await Promise.race([(async () => this.#getToken(why))(), late]);
      if (typeof token !== "string" || token === "") throw new TypeError("getToken gave no token");
      return token;
    } finally {
      takeBack();
    }
  }
}

function decodeBase64Url(text: string): string {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return new TextDecoder().decode(Uint8Array.from(binary, (one) => one.charCodeAt(0)));
}
