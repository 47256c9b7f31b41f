import { expect, it } from "vitest";
import { lossWords } from "../src/model/lossWords.ts";

it.each([
  [1006, "whatever", "the connection broke off, 1006"],
  [1012, "", "the pod shut down, 1012"],
  [4999, "maintenance", "maintenance, 4999"],
  [null, "no answer within 5 s", "no answer within 5 s"],
  [null, "", "the pod does not answer"],
])("close code %s with the reason %j: %s", (closeCode, reason, words) => {
  expect(lossWords({ closeCode, reason })).toBe(words);
});
