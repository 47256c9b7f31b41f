import type { LocalPod } from "../localControl.ts";
import { formatWhole, UNKNOWN } from "../model/numberFormat.ts";
import { find, make, setData, setText } from "./dom.ts";
import { KeyedRows, type Row } from "./keyedRows.ts";

const STATUS: Readonly<Record<string, { readonly words: string; readonly tone: "good" | "busy" | "bad" }>> = {
  RUNNING: { words: "Running", tone: "good" },
  STARTING: { words: "Starting", tone: "busy" },
  STOPPING: { words: "Stopping", tone: "busy" },
  STOPPED: { words: "Stopped", tone: "bad" },
};

/** All pods of the local run, live. */
export class PodsView {
  readonly #panel = find("pods-panel", HTMLElement);
  readonly #table = find("pods", HTMLTableElement);
  readonly #empty = find("pods-empty", HTMLElement);
  readonly #rows: KeyedRows<LocalPod>;
  readonly #drawn = new Map<string, PodRow>();
  #here: string | null = null;

  constructor(onStop: (name: string) => void, onKill: (name: string) => void) {
    this.#panel.hidden = false;
    const makeRow = ({ name }: LocalPod): PodRow => {
      const row = new PodRow(name, onStop, onKill);
      row.mark(name === this.#here);
      this.#drawn.set(name, row);
      return row;
    };
    this.#rows = new KeyedRows(this.#table, (pod) => pod.name, makeRow, find("main", HTMLElement));
  }

  draw(pods: readonly LocalPod[]): void {
    this.#rows.show(pods);
    this.#table.hidden = pods.length === 0;
    this.#empty.hidden = pods.length > 0;
  }

  /** Which pod this page's connection is on. */
  mark(podName: string | null): void {
    this.#here = podName;
    for (const [name, row] of this.#drawn) row.mark(name === podName);
  }

  /** The local run does not tell any more. */
  lose(): void {
    this.#table.hidden = true;
    this.#empty.hidden = false;
    setText(this.#empty, "The local run does not answer. If it was started again, reload this page.");
  }
}

class PodRow implements Row<LocalPod> {
  readonly element = make("tr");
  readonly #here = make("span", { class: "here" }, "this page");
  readonly #status = make("span", { class: "badge" });
  readonly #sessions = make("td");
  readonly #sockets = make("td");
  readonly #simulators = make("td");
  readonly #stop: HTMLButtonElement;
  readonly #kill: HTMLButtonElement;
  #usable = false;

  constructor(name: string, onStop: (name: string) => void, onKill: (name: string) => void) {
    this.#stop = make("button", { type: "button", class: "small", "aria-label": `Stop ${name}` }, "Stop");
    this.#kill = make("button", { type: "button", class: "small danger", "aria-label": `Kill ${name}` }, "Kill");
    this.#stop.addEventListener("click", () => this.#usable && onStop(name));
    this.#kill.addEventListener("click", () => this.#usable && onKill(name));
    this.element.dataset.pod = name;
    this.element.append(
      make("th", { scope: "row" }, name, this.#here),
      make("td", {}, this.#status),
      this.#sessions,
      this.#sockets,
      this.#simulators,
      make("td", {}, make("span", { class: "row-tools" }, this.#stop, this.#kill)),
    );
  }

  mark(isHere: boolean): void {
    this.#here.hidden = !isHere;
  }

  update(pod: LocalPod): void {
    const status = STATUS[pod.status] ?? { words: pod.status, tone: "busy" };
    setText(this.#status, status.words);
    setData(this.#status, "tone", status.tone);
    this.element.title = pod.pid === null ? pod.url : `${pod.url}, process ${pod.pid}`;
    setText(this.#sessions, countWords(pod.sessions));
    setText(this.#sockets, countWords(pod.sockets));
    setText(this.#simulators, countWords(pod.simulators));
    this.#setUsable(pod.status === "RUNNING");
  }

  /** Not `disabled`: a button that has just been pressed keeps the focus. */
  #setUsable(usable: boolean): void {
    this.#usable = usable;
    for (const button of [this.#stop, this.#kill]) button.setAttribute("aria-disabled", String(!usable));
  }
}

function countWords(count: number | null): string {
  return count === null ? UNKNOWN : formatWhole(count);
}
