/** Commands on their way: over a socket as fast as the service takes them, beside an event stream by REST. */

import type { Command, Commands } from "./commands.ts";
import { ServiceError } from "./errors.ts";
import type { ClientMessage } from "./frames.ts";
import type { LiveChannel } from "./liveChannel.ts";
import type { Clock } from "./platform.ts";
import type { RestClient } from "./rest.ts";
import { carryOut, needsNewStream } from "./restCommands.ts";

/** More waits in the socket already: commands wait here. */
const MAX_UNSENT_BYTES = 64 * 1024;
const UNSENT_LOOK_MS = 250;
/** A command by REST that got no answer is tried again after it. */
const REST_RETRY_MS = 1_000;

interface Parts {
  readonly commands: Commands;
  readonly rest: RestClient;
  readonly clock: Clock;
}

/** `reopen`: an event stream has to be opened anew, with a snapshot; under other symbols where they are not null. */
interface Actions {
  send(live: LiveChannel, message: ClientMessage): void;
  reopen(live: LiveChannel, symbols: readonly string[] | null): void;
  wake(): void;
}

export class CommandSender {
  readonly #parts: Parts;
  readonly #actions: Actions;

  constructor(parts: Parts, actions: Actions) {
    this.#parts = parts;
    this.#actions = actions;
  }

  /** Those that this connection has not been given yet: new ones, and what an earlier one did not answer. */
  send(live: LiveChannel, nowMs: number): void {
    const { commands } = this.#parts;
    live.sendAtMs = null;
    for (let command = commands.nextUnsent(live); command !== null; command = commands.nextUnsent(live)) {
      if (live.channel.kind === "sse") {
        command.sentOver = live;
        this.#sendBeside(live, command);
        continue;
      }
      const waitMs = live.channel.unsentBytes > MAX_UNSENT_BYTES ? UNSENT_LOOK_MS : live.rate.waitMs(nowMs);
      if (waitMs > 0) {
        live.sendAtMs = nowMs + waitMs;
        return;
      }
      command.sentOver = live;
      this.#actions.send(live, command.message);
    }
  }

  /** What was asked of an event stream: that there is a new one is the answer. */
  answerByStream(before: LiveChannel): void {
    const { commands } = this.#parts;
    for (const { message } of commands.sentOver(before)) {
      if (!needsNewStream(message)) continue;
      commands.answered({ type: "result", timestamp: 0, requestId: message.requestId, success: true });
    }
  }

  /** What was asked of an event stream was refused: there will be no other one for it. */
  refuse(live: LiveChannel, error: ServiceError): void {
    const { commands } = this.#parts;
    for (const command of commands.sentOver(live)) {
      if (needsNewStream(command.message)) commands.failed(command, error);
    }
  }

  #sendBeside(live: LiveChannel, command: Command): void {
    const { message } = command;
    if (needsNewStream(message)) {
      this.#actions.reopen(live, message.type === "subscribe" ? message.symbols : null);
      return;
    }
    const { commands, rest, clock } = this.#parts;
    carryOut(rest, live.frame.sessionId, message).then(
      (answer) => commands.answered(answer),
      (error: unknown) => {
        if (error instanceof ServiceError && (error.status === null || error.status < 500)) {
          commands.failed(command, error);
          return;
        }
        clock.after(REST_RETRY_MS, () => {
          if (command.sentOver === live) command.sentOver = null;
          this.#actions.wake();
        });
      },
    );
  }
}
