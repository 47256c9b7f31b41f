import type { RestClient } from "session-service-client";
import { failureWords } from "../model/failureWords.ts";
import type { SessionLine } from "../model/sessionLines.ts";
import { SessionsView } from "../view/sessionsView.ts";

/**
 * The user's sessions. They are asked for when something here has changed them or the user wants to know, and not every
 * few seconds: the question itself extends every session (docs/rest.md), and none would ever expire.
 */
export class SessionsPanel {
  readonly #view: SessionsView;
  #rest: RestClient | null = null;
  #sessionId: string | null = null;
  #asked = 0;
  /** What is said beside the list is that it could not be read. */
  #saysUnread = false;

  constructor() {
    this.#view = new SessionsView(
      (line) => void this.#end(line),
      () => void this.refresh(),
    );
  }

  /** Whose sessions they are, and which one is this page's. */
  follow(rest: RestClient | null, sessionId: string | null): void {
    this.#rest = rest;
    this.#sessionId = sessionId;
    if (rest) return;
    this.#view.draw([], null);
    this.#tell("good", "");
  }

  async refresh(): Promise<void> {
    const rest = this.#rest;
    if (!rest) return;
    this.#asked += 1;
    const asked = this.#asked;
    try {
      const sessions = await rest.listSessions();
      // Of two questions only the later one's answer counts, also when it comes first.
      if (asked !== this.#asked || rest !== this.#rest) return;
      this.#view.draw(sessions, this.#sessionId);
      if (this.#saysUnread) this.#tell("good", "");
    } catch (error) {
      if (asked !== this.#asked || rest !== this.#rest) return;
      this.#tell("bad", `Your sessions could not be read. ${failureWords(error)}`);
      this.#saysUnread = true;
    }
  }

  async #end(line: SessionLine): Promise<void> {
    const rest = this.#rest;
    if (!rest) return;
    try {
      await rest.endSession(line.sessionId);
      if (rest === this.#rest) this.#tell("good", `The session of ${line.device} has ended.`);
    } catch (error) {
      if (rest === this.#rest)
        this.#tell("bad", `The session of ${line.device} was not ended. ${failureWords(error)}`);
    }
    await this.refresh();
  }

  #tell(tone: "good" | "bad", words: string): void {
    this.#saysUnread = false;
    this.#view.tell(tone, words);
  }
}
