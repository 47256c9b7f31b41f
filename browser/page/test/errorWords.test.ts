import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { errorWords, rejectionWords } from "../src/model/errorWords.ts";

/** Codes that a page which keeps to the protocol cannot meet; the service's own words do for them. */
const NOT_FOR_PEOPLE = new Set([
  "INVALID_REQUEST",
  "SESSION_REQUIRED",
  "NOT_FOUND",
  "METHOD_NOT_ALLOWED",
  "SESSION_NOT_READY",
  "PAYLOAD_TOO_LARGE",
  "ORDER_REJECTED",
  "UNKNOWN_MESSAGE_TYPE",
  "INVALID_MESSAGE",
]);

function documentedCodes(): string[] {
  const page = readFileSync(new URL("../../../docs/errors.md", import.meta.url), "utf8");
  return [...page.matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1] ?? "");
}

describe("errorWords", () => {
  it("are sentences of their own for every documented code that people can meet", () => {
    const codes = documentedCodes().filter((code) => !NOT_FOR_PEOPLE.has(code) && !code.startsWith("CLAIM_"));
    expect(codes.length).toBeGreaterThan(15);
    expect(codes.filter((code) => errorWords(code, "message").includes(code))).toEqual([]);
  });

  it("are the service's own for other codes, which are named", () => {
    expect(errorWords("INVALID_REQUEST", "deviceId: is required")).toBe("DeviceId: is required. (INVALID_REQUEST)");
    expect(errorWords("NEW_CODE", "")).toContain("NEW_CODE");
  });
});

describe("rejectionWords", () => {
  it("say what to do about what happens often", () => {
    expect(rejectionWords("insufficient cash")).toContain("Buy fewer shares");
  });

  it("are the exchange's own for what it says else", () => {
    expect(rejectionWords("market halted")).toBe("Market halted.");
    expect(rejectionWords(null)).toBe("The exchange gave no reason.");
  });
});
