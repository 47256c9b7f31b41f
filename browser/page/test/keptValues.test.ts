import { expect, it } from "vitest";
import { keptValues } from "../src/keptValues.ts";

function storageThat(setItem: (key: string, value: string) => void): Storage {
  const unused = { length: 0, key: () => null, clear: () => {} };
  return { ...unused, getItem: () => null, removeItem: () => {}, setItem };
}

it("keeps values while the page is open where the browser refuses a storage", () => {
  const values = keptValues(() => {
    throw new DOMException("blocked", "SecurityError");
  });
  values.setItem("a", "1");
  expect([values.getItem("a"), values.getItem("b")]).toEqual(["1", null]);
  values.removeItem("a");
  expect(values.getItem("a")).toBeNull();
});

it("keeps a value while the page is open where the storage is full, and throws nothing", () => {
  const full = storageThat(() => {
    throw new DOMException("full", "QuotaExceededError");
  });
  const values = keptValues(() => full);
  values.setItem("a", "1");
  expect(values.getItem("a")).toBe("1");
  values.removeItem("a");
  expect(values.getItem("a")).toBeNull();
});
