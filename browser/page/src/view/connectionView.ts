import type { Quality, Statistics, TransportKind } from "session-service-client";
import { formatDuration, formatRate, formatWhole, UNKNOWN } from "../model/numberFormat.ts";
import type { Trial } from "../trials.ts";
import { find, setData, setText } from "./dom.ts";

/** What the panel shows; null where it is not known. */
export interface ConnectionFigures {
  readonly podName: string | null;
  readonly transport: TransportKind | null;
  readonly quality: Quality;
  readonly updatesPerSecond: number;
  readonly epoch: number | null;
  readonly sequence: number | null;
  readonly statistics: Statistics;
}

/** The connection panel. Its counters also stand in `data-…` attributes of the section, as plain numbers. */
export class ConnectionView {
  readonly #section = find("connection", HTMLElement);
  readonly #fields = {
    gaps: find("gaps", HTMLElement),
    duplicates: find("duplicates", HTMLElement),
    worstPause: find("worst-pause", HTMLElement),
    pod: find("pod", HTMLElement),
    transport: find("transport", HTMLElement),
    quality: find("quality", HTMLElement),
    roundTrip: find("round-trip", HTMLElement),
    rate: find("rate", HTMLElement),
    sequence: find("sequence", HTMLElement),
    epoch: find("epoch", HTMLElement),
    updates: find("updates", HTMLElement),
    reconnects: find("reconnects", HTMLElement),
  };
  readonly #trialResult = find("trial-result", HTMLElement);

  /** `onTrial` null: not a local run, so there is nothing to try. */
  constructor(onTrial: ((trial: Trial) => void) | null) {
    find("trials", HTMLElement).hidden = onTrial === null;
    if (!onTrial) return;
    find("cut", HTMLButtonElement).addEventListener("click", () => onTrial("cut"));
    find("stop-pod", HTMLButtonElement).addEventListener("click", () => onTrial("stop"));
    find("kill-pod", HTMLButtonElement).addEventListener("click", () => onTrial("kill"));
  }

  draw(figures: ConnectionFigures): void {
    const { statistics, epoch, sequence } = figures;
    const fields = this.#fields;
    setText(fields.gaps, formatWhole(statistics.gaps));
    setText(fields.duplicates, formatWhole(statistics.duplicates));
    setData(fields.gaps, "broken", String(statistics.gaps > 0));
    setData(fields.duplicates, "broken", String(statistics.duplicates > 0));
    setText(fields.worstPause, statistics.reconnects === 0 ? UNKNOWN : formatDuration(statistics.longestPauseMs));
    setText(fields.pod, figures.podName ?? UNKNOWN);
    setText(fields.transport, transportWords(figures.transport));
    setText(fields.quality, qualityWords(figures.quality));
    setText(fields.roundTrip, statistics.roundTripMs === null ? UNKNOWN : formatDuration(statistics.roundTripMs));
    setText(fields.rate, formatRate(figures.updatesPerSecond));
    setText(fields.sequence, sequence === null ? UNKNOWN : formatWhole(sequence));
    setText(fields.epoch, epoch === null ? UNKNOWN : String(epoch));
    setText(fields.updates, formatWhole(statistics.updates));
    setText(fields.reconnects, formatWhole(statistics.reconnects));
    this.#publish(figures);
  }

  /** What became of a trial, or that it is under way. */
  tell(tone: "good" | "bad" | "busy", words: string): void {
    setData(this.#trialResult, "tone", tone);
    setText(this.#trialResult, words);
  }

  #publish({ statistics, epoch, sequence, podName }: ConnectionFigures): void {
    const counters = {
      gaps: statistics.gaps,
      duplicates: statistics.duplicates,
      updates: statistics.updates,
      snapshots: statistics.snapshots,
      snapshotsSkipping: statistics.snapshotsSkipping,
      reconnects: statistics.reconnects,
      resumed: statistics.resumed,
      longestPauseMs: Math.round(statistics.longestPauseMs),
      epoch,
      sequence,
      pod: podName,
    };
    for (const [name, value] of Object.entries(counters)) {
      setData(this.#section, name, value === null ? null : String(value));
    }
  }
}

function transportWords(transport: TransportKind | null): string {
  if (transport === null) return UNKNOWN;
  return transport === "websocket" ? "WebSocket" : "Server-sent events";
}

function qualityWords(quality: Quality): string {
  return { GOOD: "Good", DEGRADED: "Degraded", POOR: "Poor" }[quality];
}
