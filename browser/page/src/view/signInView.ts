import { readToken } from "../model/accessToken.ts";
import { find, setText } from "./dom.ts";

/** How somebody wants to sign in. */
export type SignIn =
  | { readonly kind: "local"; readonly user: string }
  | { readonly kind: "token"; readonly token: string };

/** The sign-in forms: a user's name in the local run, else a token of one's own identity provider. */
export class SignInView {
  readonly #section = find("sign-in", HTMLElement);
  readonly #localForm = find("local-sign-in", HTMLFormElement);
  readonly #user = find("local-user", HTMLInputElement);
  readonly #token = find("token", HTMLInputElement);
  readonly #problem = find("sign-in-problem", HTMLElement);

  constructor(onSignIn: (signIn: SignIn) => void) {
    this.#localForm.addEventListener("submit", (event) => {
      event.preventDefault();
      onSignIn({ kind: "local", user: this.#user.value.trim() });
    });
    find("token-sign-in", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      const reading = readToken(this.#token.value, Date.now());
      if (!reading.ok) {
        this.#refuse(reading.words);
        return;
      }
      setText(this.#problem, "");
      onSignIn({ kind: "token", token: reading.token });
    });
  }

  /** `offersLocal`: this is a local run, which makes tokens itself. `words`: why one has to sign in, where that is so. */
  show(offersLocal: boolean, words = ""): void {
    this.#localForm.hidden = !offersLocal;
    this.#section.hidden = false;
    setText(this.#problem, words);
    (offersLocal ? this.#user : this.#token).focus();
  }

  /** What was typed is forgotten: a token stays nowhere but where it is used. */
  hide(): void {
    if (this.#section.contains(document.activeElement)) find("main", HTMLElement).focus();
    this.#section.hidden = true;
    this.#token.value = "";
    this.#token.setAttribute("aria-invalid", "false");
    setText(this.#problem, "");
  }

  #refuse(words: string): void {
    setText(this.#problem, words);
    this.#token.setAttribute("aria-invalid", "true");
    this.#token.focus();
  }
}
