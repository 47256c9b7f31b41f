/** What a token says of itself. The service alone decides whether it is true. */
export interface TokenClaims {
  readonly user: string | null;
  readonly expiresMs: number | null;
}

export type TokenReading =
  | { readonly ok: true; readonly token: string; readonly claims: TokenClaims }
  | { readonly ok: false; readonly words: string };

/** Reads what was typed into the sign-in form: a JWT, with or without "Bearer" before it. */
export function readToken(typed: string, nowMs: number): TokenReading {
  const token = typed.trim().replace(/^Bearer(\s+|$)/i, "");
  if (token === "") return refused("Paste the token that your identity provider gave you.");
  const claims = claimsOf(token);
  if (!claims) {
    return refused("This is not a token: a JWT has three parts with dots between them. Copy it again, all of it.");
  }
  if (claims.expiresMs !== null && claims.expiresMs <= nowMs) {
    return refused("This token has expired. Get a new one from your identity provider.");
  }
  return { ok: true, token, claims };
}

/** Null for what is no JWT. */
export function claimsOf(token: string): TokenClaims | null {
  const parts = token.split(".");
  const payload = parts[1];
  if (parts.length !== 3 || !payload || !/^[\w-]+$/.test(payload)) return null;
  try {
    const claims: unknown = JSON.parse(decodeBase64url(payload));
    if (typeof claims !== "object" || claims === null) return null;
    const { sub, exp } = claims as { sub?: unknown; exp?: unknown };
    return {
      user: typeof sub === "string" || typeof sub === "number" ? String(sub) : null,
      expiresMs: typeof exp === "number" ? exp * 1000 : null,
    };
  } catch {
    return null;
  }
}

function decodeBase64url(text: string): string {
  const bytes = Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
  return new TextDecoder().decode(bytes);
}

function refused(words: string): TokenReading {
  return { ok: false, words };
}
