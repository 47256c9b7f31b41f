/** What is known of the session's simulator. */
export interface SimulatorState {
  readonly status: string;
  readonly reason: string | null;
  /** Its place among those that wait to be created, 1 is next; null: it does not wait. */
  readonly queuePosition: number | null;
}

export const NO_SIMULATOR: SimulatorState = { status: "NONE", reason: null, queuePosition: null };

/** How the state is shown: a label, a sentence that says what to do, and which buttons make sense. */
export interface SimulatorProgress {
  readonly label: string;
  readonly words: string;
  readonly tone: "idle" | "busy" | "good" | "bad";
  /** Of 4 steps: asked for, created, starting, running. */
  readonly step: 0 | 1 | 2 | 3 | 4;
  readonly canStart: boolean;
  readonly canStop: boolean;
}

/** The session is over, or somebody else's by now: what its market does is not to be seen from here. */
export const OUT_OF_SIGHT: SimulatorState = { status: "OUT_OF_SIGHT", reason: null, queuePosition: null };

const START = "Start the market to trade.";

export function simulatorProgress(state: SimulatorState): SimulatorProgress {
  switch (state.status) {
    case "NONE":
      return idle("No market", START);
    case "STOPPED":
      return idle("Stopped", stopWords(state.reason));
    case "CREATING":
      return busy("Creating", creationWords(state), 1);
    case "STARTING":
      return state.queuePosition === null
        ? busy("Starting", waitWords(state.reason), 3)
        : busy(`Waiting, place ${state.queuePosition}`, creationWords(state), 1);
    case "RUNNING":
      return {
        label: "Running",
        words: "The market is open.",
        tone: "good",
        step: 4,
        canStart: false,
        canStop: true,
      };
    case "STOPPING":
      return {
        label: "Stopping",
        words: "The market is being closed.",
        tone: "busy",
        step: 0,
        canStart: false,
        canStop: false,
      };
    case "OUT_OF_SIGHT":
      return {
        label: "Not connected",
        words: "This is the last that was known. Reload the page to go on.",
        tone: "idle",
        step: 0,
        canStart: false,
        canStop: false,
      };
    case "ERROR":
      return {
        label: "Failed",
        words: `${failureWords(state.reason)} Start a new one: it begins with fresh cash.`,
        tone: "bad",
        step: 0,
        canStart: true,
        canStop: false,
      };
    default:
      return idle(state.status, START);
  }
}

function idle(label: string, words: string): SimulatorProgress {
  return { label, words, tone: "idle", step: 0, canStart: true, canStop: false };
}

function busy(label: string, words: string, step: 1 | 2 | 3): SimulatorProgress {
  return { label, words, tone: "busy", step, canStart: false, canStop: true };
}

function creationWords({ queuePosition }: SimulatorState): string {
  if (queuePosition === null) return "A place for your market is being made.";
  if (queuePosition === 1) return "Your market is the next to be created.";
  return `${queuePosition - 1} other markets are created before yours. You need not do anything.`;
}

function waitWords(reason: string | null): string {
  return reason ? `Your market is starting. Its platform says: ${reason}.` : "Your market is starting.";
}

function stopWords(reason: string | null): string {
  switch (reason) {
    case "inactive":
      return `The market was closed because nobody used it. ${START}`;
    case "session_expired":
      return `The market was closed with its session. ${START}`;
    case "pod_terminated":
      return `The market was closed because its server shut down. ${START}`;
    default:
      return `The market is closed. ${START}`;
  }
}

function failureWords(reason: string | null): string {
  switch (reason) {
    case "workload_gone":
      return "The market's process is gone.";
    case "state_lost":
      return "The market lost its state.";
    case "unresponsive":
      return "The market did not answer for 30 seconds.";
    case "start_timeout":
      return "The market did not start within two minutes.";
    case "platform_unavailable":
      return "The platform that runs markets could not be reached.";
    case null:
      return "The market failed.";
    default:
      return `The market failed (${reason}).`;
  }
}
