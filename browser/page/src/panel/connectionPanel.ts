import type { Connection } from "session-service-client";
import { ConnectionLog } from "../model/connectionLog.ts";
import { UpdateRate } from "../model/updateRate.ts";
import type { Trial } from "../trials.ts";
import { ConnectionView } from "../view/connectionView.ts";
import { LogView } from "../view/logView.ts";
import type { Painter } from "../view/painter.ts";

/** Figures change with every update; nobody reads them faster. */
const FIGURES_EVERY_MS = 250;

/** The connection's figures and its log. */
export class ConnectionPanel {
  readonly log = new ConnectionLog();
  readonly #rate = new UpdateRate();
  readonly #view: ConnectionView;
  readonly #logView = new LogView();
  readonly #draw: () => void;
  #connection: Connection | null = null;

  /** `onTrial` null: not a local run. */
  constructor(painter: Painter, onTrial: ((trial: Trial) => void) | null) {
    this.#view = new ConnectionView(onTrial);
    this.#draw = painter.part(FIGURES_EVERY_MS, () => this.#paint());
    // A rate falls when nothing comes.
    setInterval(this.#draw, 2 * FIGURES_EVERY_MS);
  }

  follow(connection: Connection | null): void {
    this.#connection = connection;
    this.#draw();
  }

  /** Nothing is left of whoever was here. */
  clear(): void {
    this.log.clear();
    this.#view.tell("busy", "");
    this.#draw();
  }

  /** So many numbered updates came. */
  noteUpdates(count: number): void {
    this.#rate.note(count, performance.now());
    this.#draw();
  }

  /** Something about the connection changed. */
  changed(): void {
    this.#draw();
  }

  tellTrial(tone: "good" | "bad" | "busy", words: string): void {
    this.#view.tell(tone, words);
  }

  #paint(): void {
    this.#logView.draw(this.log);
    const connection = this.#connection;
    if (!connection) return;
    this.#view.draw({
      podName: connection.connected?.podName ?? null,
      transport: connection.transport,
      quality: connection.quality,
      updatesPerSecond: this.#rate.perSecond(performance.now()),
      epoch: connection.position?.epoch ?? null,
      sequence: connection.position?.sequence ?? null,
      statistics: connection.statistics,
    });
  }
}
