import { type LocalControl, LocalControlError } from "../localControl.ts";
import { watchPods } from "../podWatch.ts";
import { PodsView } from "../view/podsView.ts";

/** What became of a request to the local run. */
export interface PodAnswer {
  readonly tone: "good" | "bad";
  readonly words: string;
}

/** The pods of the local run, and what can be done to them. */
export class PodsPanel {
  readonly #control: LocalControl;
  readonly #view: PodsView;

  constructor(control: LocalControl, onAnswer: (answer: PodAnswer) => void) {
    this.#control = control;
    this.#view = new PodsView(
      (name) => void this.stop(name).then(onAnswer),
      (name) => void this.kill(name).then(onAnswer),
    );
    void watchPods(
      control,
      (pods) => this.#view.draw(pods),
      () => this.#view.lose(),
    );
  }

  /** Which pod this page is on. */
  mark(podName: string | null): void {
    this.#view.mark(podName);
  }

  async stop(name: string): Promise<PodAnswer> {
    return answer(this.#control.stopPod(name), `${name} was asked to stop. It tells its clients, then goes.`);
  }

  async kill(name: string): Promise<PodAnswer> {
    return answer(this.#control.killPod(name), `${name} was killed.`);
  }
}

async function answer(request: Promise<void>, words: string): Promise<PodAnswer> {
  try {
    await request;
    return { tone: "good", words };
  } catch (error) {
    const why = error instanceof LocalControlError ? error.message : "Nobody answered.";
    return { tone: "bad", words: `That did not work: ${why.replace(/\.?$/, ".")} Try again.` };
  }
}
