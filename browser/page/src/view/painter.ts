interface Part {
  readonly leastMs: number;
  readonly draw: (nowMs: number) => void;
  drawnMs: number;
}

/**
 * Draws what has changed: all of it in one frame of the display, and each part no more often than it wants.
 *
 * A page that is not shown draws nothing; what came meanwhile is drawn once, when it is shown again.
 */
export class Painter {
  readonly #wanted = new Set<Part>();
  #frame: number | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #timerDueMs = 0;

  /** A part that is drawn at most every `leastMs` (0: in every frame). The result is to be called with each change. */
  part(leastMs: number, draw: (nowMs: number) => void): () => void {
    const part: Part = { leastMs, draw, drawnMs: Number.NEGATIVE_INFINITY };
    return () => {
      if (this.#wanted.has(part)) return;
      this.#wanted.add(part);
      this.#schedule(part.drawnMs + part.leastMs);
    };
  }

  #schedule(dueMs: number): void {
    if (this.#frame !== null) return;
    const waitMs = dueMs - performance.now();
    if (waitMs <= 0) {
      this.#stopTimer();
      this.#frame = requestAnimationFrame((nowMs) => this.#paint(nowMs));
    } else if (this.#timer === null || dueMs < this.#timerDueMs) {
      this.#stopTimer();
      this.#timerDueMs = dueMs;
      this.#timer = setTimeout(() => {
        this.#timer = null;
        this.#schedule(Number.NEGATIVE_INFINITY);
      }, waitMs);
    }
  }

  #paint(nowMs: number): void {
    this.#frame = null;
    let nextMs = Number.POSITIVE_INFINITY;
    for (const part of [...this.#wanted]) {
      const dueMs = part.drawnMs + part.leastMs;
      if (dueMs > nowMs) {
        nextMs = Math.min(nextMs, dueMs);
        continue;
      }
      this.#wanted.delete(part);
      part.drawnMs = nowMs;
      part.draw(nowMs);
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#schedule(nextMs);
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
