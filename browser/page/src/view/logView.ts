import type { ConnectionLog } from "../model/connectionLog.ts";
import { formatClock } from "../model/numberFormat.ts";
import { find, make } from "./dom.ts";

/** The log of the connection, newest first. */
export class LogView {
  readonly #list = find("log", HTMLOListElement);
  #drawnVersion = -1;

  draw(log: ConnectionLog): void {
    if (log.version === this.#drawnVersion) return;
    this.#drawnVersion = log.version;
    this.#list.replaceChildren(
      ...log.entries.map((entry) => {
        const at = make("time", { datetime: new Date(entry.atMs).toISOString() }, formatClock(entry.atMs));
        const item = make("li", { "data-kind": entry.kind }, at, make("span", {}, entry.words));
        if (entry.pauseMs !== null) item.dataset.pauseMs = String(Math.round(entry.pauseMs));
        return item;
      }),
    );
  }
}
