import type { TokenReason } from "session-service-client";
import type { LocalControl, LocalToken } from "./localControl.ts";
import { claimsOf } from "./model/accessToken.ts";

/** Who sits at the page. */
export interface Identity {
  readonly user: string;
  /** A token for `session-service-client`. */
  getToken(why: TokenReason): Promise<string>;
}

/** A token is asked for anew when less than this is left of it. */
const MARGIN_MS = 120_000;

/** A user of the local run, which makes tokens for whoever asks. */
export class LocalIdentity implements Identity {
  readonly user: string;
  readonly #control: LocalControl;
  #token: LocalToken | null = null;

  constructor(control: LocalControl, user: string) {
    this.#control = control;
    this.user = user;
  }

  async getToken(why: TokenReason): Promise<string> {
    const known = this.#token;
    const fresh = known !== null && Date.parse(known.expiresAt) - Date.now() > MARGIN_MS;
    if (fresh && why !== "expired" && why !== "refresh") return known.token;
    try {
      this.#token = await this.#control.token(this.user);
    } catch (error) {
      // The control may be gone for a moment while the token is still good.
      if (known !== null && Date.parse(known.expiresAt) > Date.now() && why !== "expired") return known.token;
      throw error;
    }
    return this.#token.token;
  }
}

/** Somebody with a token of an identity provider, pasted in. */
export class TokenIdentity implements Identity {
  readonly user: string;
  readonly #token: string;

  constructor(token: string) {
    this.#token = token;
    this.user = claimsOf(token)?.user ?? "signed in";
  }

  async getToken(): Promise<string> {
    return this.#token;
  }
}
