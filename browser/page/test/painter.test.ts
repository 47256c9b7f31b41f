import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Painter } from "../src/view/painter.js";

const FRAME_MS = 16;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  vi.stubGlobal("requestAnimationFrame", (paint: (nowMs: number) => void) =>
    setTimeout(() => paint(performance.now()), FRAME_MS),
  );
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** How often each part is drawn in a second in which all of them change every 5 ms. */
function drawn(...leastMs: number[]): number[] {
  const painter = new Painter();
  const counts = leastMs.map(() => 0);
  const changed = leastMs.map((least, index) =>
    painter.part(least, () => {
      counts[index] = (counts[index] ?? 0) + 1;
    }),
  );
  for (let passedMs = 0; passedMs < 1000; passedMs += 5) {
    for (const tell of changed) tell();
    vi.advanceTimersByTime(5);
  }
  return counts;
}

test("a part is drawn as often as it wants, and not more often", () => {
  const [count = 0] = drawn(100);
  expect(count).toBeGreaterThanOrEqual(8);
  expect(count).toBeLessThanOrEqual(11);
});

test("a part that is due soon does not wait for one that is due later", () => {
  const [late = 0, soon = 0] = drawn(500, 33);
  expect(late).toBeLessThanOrEqual(3);
  expect(soon).toBeGreaterThanOrEqual(15);
});
