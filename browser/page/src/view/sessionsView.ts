import type { Session } from "session-service-client";
import { formatInstant, UNKNOWN } from "../model/numberFormat.ts";
import { type SessionLine, sessionLines } from "../model/sessionLines.ts";
import { find, make, setData, setText } from "./dom.ts";
import { KeyedRows, type Row } from "./keyedRows.ts";

/** The user's sessions, one for each device. */
export class SessionsView {
  readonly #table = find("sessions", HTMLTableElement);
  readonly #empty = find("sessions-empty", HTMLElement);
  readonly #result = find("sessions-result", HTMLElement);
  readonly #rows: KeyedRows<SessionLine>;

  constructor(onEnd: (line: SessionLine) => void, onRefresh: () => void) {
    const refresh = find("sessions-refresh", HTMLButtonElement);
    refresh.addEventListener("click", onRefresh);
    this.#rows = new KeyedRows(
      this.#table,
      (line) => line.sessionId,
      () => new SessionRow(onEnd),
      refresh,
    );
  }

  draw(sessions: readonly Session[], thisSessionId: string | null): void {
    const lines = sessionLines(sessions, thisSessionId);
    this.#rows.show(lines);
    this.#table.hidden = lines.length === 0;
    this.#empty.hidden = lines.length > 0;
    setText(this.#empty, "You have no open session.");
  }

  tell(tone: "good" | "bad", words: string): void {
    setData(this.#result, "tone", tone);
    setText(this.#result, words);
  }
}

class SessionRow implements Row<SessionLine> {
  readonly element = make("tr");
  readonly #device = make("span");
  readonly #id = make("small", { class: "soft" });
  readonly #here = make("span", { class: "here" }, "this device");
  readonly #status = make("td");
  readonly #pod = make("td");
  readonly #market = make("td");
  readonly #since = make("td", { class: "soft" });
  readonly #end = make("button", { type: "button", class: "small" }, "End");
  #line: SessionLine | null = null;

  constructor(onEnd: (line: SessionLine) => void) {
    this.#end.addEventListener("click", () => {
      if (this.#line) onEnd(this.#line);
    });
    const device = make("th", { scope: "row" }, this.#device, this.#id, this.#here);
    this.element.append(device, this.#status, this.#pod, this.#market, this.#since, make("td", {}, this.#end));
  }

  update(line: SessionLine): void {
    this.#line = line;
    setText(this.#device, line.device);
    setText(this.#id, ` ${line.deviceTail}`);
    this.#device.title = line.deviceId;
    this.#here.hidden = !line.isHere;
    setText(this.#status, line.statusWords);
    setText(this.#pod, line.podName ?? UNKNOWN);
    setText(this.#market, line.marketWords);
    setText(this.#since, line.sinceMs === null ? UNKNOWN : formatInstant(line.sinceMs, Date.now()));
    const here = line.isHere ? " (this device)" : "";
    this.#end.setAttribute("aria-label", `End the session of ${line.device} ${line.deviceTail}${here}`);
  }
}
