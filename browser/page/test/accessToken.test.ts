import { describe, expect, it } from "vitest";
import { claimsOf, readToken } from "../src/model/accessToken.ts";

const NOW_MS = 1_800_000_000_000;

function jwt(claims: unknown): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part(claims)}.c2lnbmF0dXJl`;
}

describe("readToken", () => {
  it("takes a token, with or without Bearer and blanks around it", () => {
    const token = jwt({ sub: "zoë", exp: NOW_MS / 1000 + 60 });
    for (const typed of [token, `  ${token}\n`, `Bearer ${token}`, `bearer  ${token}`]) {
      expect(readToken(typed, NOW_MS)).toEqual({
        ok: true,
        token,
        claims: { user: "zoë", expiresMs: NOW_MS + 60_000 },
      });
    }
  });

  it.each(["", "   ", "Bearer "])("asks for a token where there is none: %j", (typed) => {
    expect(readToken(typed, NOW_MS)).toMatchObject({ ok: false, words: expect.stringContaining("Paste") });
  });

  it.each(["hello", "a.b", "a..c", "a.%%%.c", `${jwt({ sub: "1" })}.more`])("says that %j is no token", (typed) => {
    expect(readToken(typed, NOW_MS)).toMatchObject({ ok: false, words: expect.stringContaining("not a token") });
  });

  it("says that a token has expired", () => {
    const typed = jwt({ sub: "1", exp: NOW_MS / 1000 });
    expect(readToken(typed, NOW_MS)).toMatchObject({ ok: false, words: expect.stringContaining("expired") });
  });
});

describe("claimsOf", () => {
  it("reads a number as its text, and does without", () => {
    expect(claimsOf(jwt({ sub: 42 }))).toEqual({ user: "42", expiresMs: null });
    expect(claimsOf(jwt({}))).toEqual({ user: null, expiresMs: null });
  });
});
