import { find, setText } from "./dom.ts";

/** What can be done about a notice, by a button. */
export interface NoticeAction {
  readonly label: string;
  readonly run: () => void;
}

/** The one notice above everything: what went wrong and what to do about it. The last one counts. */
export class NoticeView {
  readonly #bar = find("notice", HTMLElement);
  readonly #words = find("notice-words", HTMLElement);
  readonly #button = find("notice-action", HTMLButtonElement);
  #action: NoticeAction | null = null;

  constructor() {
    find("notice-dismiss", HTMLButtonElement).addEventListener("click", () => this.clear());
    this.#button.addEventListener("click", () => {
      const action = this.#action;
      this.clear();
      action?.run();
    });
  }

  show(words: string, action: NoticeAction | null = null): void {
    this.#action = action;
    setText(this.#words, words);
    setText(this.#button, action?.label ?? "");
    this.#button.hidden = action === null;
    this.#bar.hidden = false;
  }

  clear(): void {
    if (this.#bar.contains(document.activeElement)) find("main", HTMLElement).focus();
    this.#bar.hidden = true;
    this.#action = null;
  }
}
