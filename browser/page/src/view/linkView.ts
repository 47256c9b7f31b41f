import { find, setData, setText } from "./dom.ts";

/** The state of the connection in the header: always in sight, and told to screen readers when it changes. */
export class LinkView {
  readonly #link = find("link", HTMLElement);
  readonly #words = find("link-words", HTMLElement);
  readonly #announcement = find("announcement", HTMLElement);

  show(state: "connecting" | "open" | "reconnecting" | "closed", words: string): void {
    this.#link.hidden = false;
    setData(this.#link, "state", state);
    setText(this.#words, words);
    setText(this.#announcement, words);
  }

  hide(): void {
    this.#link.hidden = true;
  }
}
