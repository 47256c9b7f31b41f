import { type SimulatorState, simulatorProgress } from "../model/simulatorProgress.ts";
import { find, setData, setText } from "./dom.ts";

/** The simulator's progress, with the button that makes sense. */
export class MarketView {
  readonly #group = find("market", HTMLElement);
  readonly #label = find("market-label", HTMLElement);
  readonly #words = find("market-words", HTMLElement);
  readonly #progress = find("market-progress", HTMLProgressElement);
  readonly #start = find("start-market", HTMLButtonElement);
  readonly #stop = find("stop-market", HTMLButtonElement);

  constructor(onStart: () => void, onStop: () => void) {
    this.#start.addEventListener("click", onStart);
    this.#stop.addEventListener("click", onStop);
  }

  draw(state: SimulatorState): void {
    const progress = simulatorProgress(state);
    setData(this.#group, "tone", progress.tone);
    setData(this.#group, "status", state.status);
    setText(this.#label, progress.label);
    setText(this.#words, progress.words);
    this.#progress.value = progress.step;
    this.#progress.hidden = progress.tone !== "busy" || progress.step === 0;
    const hadFocus = document.activeElement === this.#start || document.activeElement === this.#stop;
    this.#start.hidden = !progress.canStart;
    this.#stop.hidden = !progress.canStop;
    if (hadFocus)
      (progress.canStart ? this.#start : progress.canStop ? this.#stop : find("main", HTMLElement)).focus();
  }
}
