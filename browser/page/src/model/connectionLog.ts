import type { ReconnectCause } from "session-service-client";
import { formatDuration } from "./numberFormat.ts";

/** Entries beyond so many are forgotten, oldest first. */
export const MAX_ENTRIES = 100;

/** What became of one loss of the connection, or of one move. */
export interface LogEntry {
  readonly id: number;
  readonly atMs: number;
  readonly kind: "connected" | "lost" | "recovered" | "moved" | "ended" | "notice";
  readonly words: string;
  /** How long there was no connection; null where that says nothing. */
  readonly pauseMs: number | null;
}

/** A connection that is there. The first one has neither a pause nor a cause. */
export interface Arrival {
  readonly podName: string;
  readonly resumed: boolean;
  readonly pauseMs: number | null;
  readonly cause: ReconnectCause | null;
}

interface Loss {
  readonly cause: string;
  readonly fromPod: string | null;
  readonly id: number;
  readonly atMs: number;
  tries: number;
}

/**
 * The log of connections: one entry for each loss, which becomes a recovery when the connection is back.
 *
 * Newest first. `version` grows with every change.
 */
export class ConnectionLog {
  #entries: LogEntry[] = [];
  #loss: Loss | null = null;
  #pod: string | null = null;
  #lastId = 0;
  #version = 0;

  get entries(): readonly LogEntry[] {
    return this.#entries;
  }

  get version(): number {
    return this.#version;
  }

  /** A loss, or a try that failed: further ones belong to the same entry. */
  lost(cause: string, nowMs: number): void {
    if (this.#loss) {
      this.#loss.tries += 1;
      return;
    }
    const id = this.#add(nowMs, "lost", `${lossWords(this.#pod)} (${cause}). Connecting again\u2026`, null);
    this.#loss = { cause, fromPod: this.#pod, id, atMs: nowMs, tries: 0 };
  }

  arrived(arrival: Arrival, nowMs: number): void {
    const { podName, resumed, pauseMs, cause: why } = arrival;
    if (this.#loss) {
      const { cause, fromPod, id, atMs, tries } = this.#loss;
      const pause = pauseMs ?? nowMs - atMs;
      const more = tries > 0 ? ` at try ${tries + 1}` : "";
      const words = `${lossWords(fromPod)} (${cause}). Back on ${podName} after ${formatDuration(pause)}${more}`;
      this.#replace({ id, atMs, kind: "recovered", words: `${words}, ${continuation(resumed)}.`, pauseMs: pause });
    } else if (this.#pod === null) {
      this.#add(nowMs, "connected", `Connected to ${podName}.`, null);
    } else {
      const words = `Moved from ${this.#pod} to ${podName}${moveWords(why)}, without a pause, ${continuation(resumed)}.`;
      this.#add(nowMs, "moved", words, 0);
    }
    this.#loss = null;
    this.#pod = podName;
  }

  /** The connection is over for good, and why. */
  ended(words: string, nowMs: number): void {
    this.#loss = null;
    this.#pod = null;
    this.#add(nowMs, "ended", words, null);
  }

  /** Something that is told beside: an error of the service, a broken sequence. */
  noticed(words: string, nowMs: number): void {
    this.#add(nowMs, "notice", words, null);
  }

  /** Somebody else comes. */
  clear(): void {
    this.#entries = [];
    this.#loss = null;
    this.#pod = null;
    this.#version += 1;
  }

  #add(atMs: number, kind: LogEntry["kind"], words: string, pauseMs: number | null): number {
    this.#lastId += 1;
    this.#entries = [{ id: this.#lastId, atMs, kind, words, pauseMs }, ...this.#entries].slice(0, MAX_ENTRIES);
    this.#version += 1;
    return this.#lastId;
  }

  #replace(entry: LogEntry): void {
    const stands = this.#entries.some(({ id }) => id === entry.id);
    const entries = stands ? this.#entries : [entry, ...this.#entries].slice(0, MAX_ENTRIES);
    this.#entries = entries.map((earlier) => (earlier.id === entry.id ? entry : earlier));
    this.#version += 1;
  }
}

function lossWords(pod: string | null): string {
  return pod === null ? "No connection" : `Lost ${pod}`;
}

function moveWords(cause: ReconnectCause | null): string {
  switch (cause) {
    case "pod_terminating":
      return " before it shut down";
    case "transport":
      return " for a better transport";
    case "token":
      return " with a new token";
    default:
      return "";
  }
}

function continuation(resumed: boolean): string {
  return resumed ? "continued where it stopped" : "with a new picture of the market";
}
