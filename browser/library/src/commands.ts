/** Commands that wait for their answer, over as many connections as it takes. No I/O. */

import { ServiceError, type SessionServiceClientError } from "./errors.ts";
import type { CommandMessage, ErrorFrame, ReconnectResultFrame, ResultFrame, SessionInfoFrame } from "./frames.ts";

/** Beyond so many a new one is refused: nobody is served by a longer queue. */
export const MAX_WAITING = 500;

export type AnswerFrame = ResultFrame | SessionInfoFrame | ReconnectResultFrame;

/**
 * `message` is sent again, as it is, over each new connection until it is answered.
 *
 * That is safe: starts, stops, filters and refreshes may be made twice, and an order is known by its `requestId`.
 * `sentOver` is the connection that has it, by identity.
 */
export interface Command {
  readonly message: CommandMessage;
  sentOver: object | null;
  readonly answer: (frame: AnswerFrame) => void;
  readonly fail: (error: Error) => void;
}

/** The commands without an answer, by request id. */
export class Commands {
  readonly #waiting = new Map<string, Command>();

  get size(): number {
    return this.#waiting.size;
  }

  /** Throws RangeError where the same request id waits already, or too many do. */
  add(message: CommandMessage, answer: (frame: AnswerFrame) => void, fail: (error: Error) => void): Command {
    const { requestId } = message;
    if (this.#waiting.has(requestId)) {
      throw new RangeError(`a command with the requestId ${JSON.stringify(requestId)} is waiting for its answer`);
    }
    if (this.#waiting.size >= MAX_WAITING) throw new RangeError(`${MAX_WAITING} commands are waiting for answers`);
    const command: Command = { message, sentOver: null, answer, fail };
    this.#waiting.set(requestId, command);
    return command;
  }

  remove(requestId: string): void {
    this.#waiting.delete(requestId);
  }

  waits(command: Command): boolean {
    return this.#waiting.get(command.message.requestId) === command;
  }

  /** The oldest that this connection has not been given yet. */
  nextUnsent(connection: object): Command | null {
    for (const command of this.#waiting.values()) if (command.sentOver !== connection) return command;
    return null;
  }

  /** Those that this connection has. */
  sentOver(connection: object): Command[] {
    return [...this.#waiting.values()].filter((command) => command.sentOver === connection);
  }

  /** A frame with a `requestId`: is it the answer to a command? An `error` frame is one too. */
  answered(frame: AnswerFrame | ErrorFrame): boolean {
    const command = frame.requestId === undefined ? undefined : this.#waiting.get(frame.requestId);
    if (command === undefined) return false;
    this.#waiting.delete(command.message.requestId);
    if (frame.type === "error") command.fail(new ServiceError(frame.errorCode, frame.message));
    else if (succeeded(frame)) command.answer(frame);
    else command.fail(refusal(frame));
    return true;
  }

  /** REST said no, in the place of a frame. */
  failed(command: Command, error: Error): void {
    if (!this.waits(command)) return;
    this.#waiting.delete(command.message.requestId);
    command.fail(error);
  }

  /** The connection is over: nothing will be answered any more. */
  failAll(error: SessionServiceClientError): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const command of waiting) command.fail(error);
  }
}

/** A rejected order is an answer, and no error of ours. */
function succeeded(frame: AnswerFrame): boolean {
  return (
    frame.type === "session_info" || frame.success || (frame.type === "result" && frame.code === "ORDER_REJECTED")
  );
}

function refusal(frame: ResultFrame | ReconnectResultFrame | SessionInfoFrame): ServiceError {
  if (frame.type === "result") return new ServiceError(frame.code ?? "UNKNOWN", frame.error ?? "");
  return new ServiceError("UNKNOWN", frame.type === "reconnect_result" ? frame.message : "");
}
