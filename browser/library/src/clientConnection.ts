/** The commands of a user over a live connection. */

import type { TokenSource } from "./accessToken.ts";
import { type ClientIdentity, newId } from "./clientIdentity.ts";
import type { AnswerFrame, Commands } from "./commands.ts";
import type { CommandOptions, Connection } from "./connection.ts";
import { CommandTimeoutError, type ConnectionEndedError } from "./errors.ts";
import type {
  Connected,
  ConnectionStatus,
  Order,
  Position,
  Quality,
  SessionInfo,
  SimulatorStatus,
  StartedSimulator,
  TransportKind,
} from "./events.ts";
import type { View } from "./exchangeView.ts";
import type { CommandMessage, OrderRequest, StartRequest } from "./frames.ts";
import { LiveConnection, type LiveParts } from "./liveConnection.ts";
import type { Listeners, Timing } from "./options.ts";
import type { Clock } from "./platform.ts";
import type { RestClient } from "./rest.ts";
import { orderFields, readOrder, readStarted } from "./restClient.ts";
import type { Statistics } from "./statistics.ts";
import { Teller } from "./teller.ts";

/** docs/protocol.md: a larger one would end the connection. */
const MAX_MESSAGE_BYTES = 65_536;

type Unnumbered<Message> = Message extends CommandMessage ? Omit<Message, "requestId"> : never;

export class ClientConnection implements Connection {
  readonly rest: RestClient;
  readonly view: View;
  readonly statistics: Statistics;
  readonly ended: Promise<ConnectionEndedError>;
  readonly opened: Promise<Connected>;
  readonly #live: LiveConnection;
  readonly #identity: ClientIdentity;
  readonly #commands: Commands;
  readonly #tokens: TokenSource;
  readonly #clock: Clock;
  readonly #timing: Timing;
  readonly #listeners: Listeners;

  constructor(
    parts: LiveParts,
    start: { readonly sessionId: string | null; readonly symbols: readonly string[] },
    onEnd: () => void,
  ) {
    this.rest = parts.rest;
    this.view = parts.view;
    this.statistics = parts.counters;
    this.#identity = parts.identity;
    this.#commands = parts.commands;
    this.#tokens = parts.tokens;
    this.#clock = parts.clock;
    this.#timing = parts.timing;
    this.#listeners = parts.listeners;
    let opened: (connected: Connected) => void = () => {};
    let notOpened: (end: ConnectionEndedError) => void = () => {};
    let ended: (end: ConnectionEndedError) => void = () => {};
    this.opened = new Promise((resolve, reject) => {
      opened = resolve;
      notOpened = reject;
    });
    this.opened.catch(() => {}); // who does not wait for it is told by `onEnd`
    this.ended = new Promise((resolve) => {
      ended = resolve;
    });
    this.#live = new LiveConnection(parts, start, {
      open: (live) => opened(live.asEvent),
      end: (end) => {
        onEnd();
        notOpened(end);
        ended(end);
      },
    });
  }

  get clientId(): string {
    return this.#identity.clientId;
  }

  get deviceId(): string {
    return this.#identity.deviceId;
  }

  get sessionId(): string | null {
    return this.#live.sessionId;
  }

  get status(): ConnectionStatus {
    return this.#live.status;
  }

  get connected(): Connected | null {
    return this.#live.last?.asEvent ?? null;
  }

  get transport(): TransportKind | null {
    return this.#live.last?.channel.kind ?? null;
  }

  get simulator(): SimulatorStatus | null {
    return this.#live.simulator;
  }

  get quality(): Quality {
    return this.#live.quality;
  }

  get position(): Position | null {
    return this.view.position;
  }

  get end(): ConnectionEndedError | null {
    return this.#live.end;
  }

  async startSimulator(request: StartRequest = {}, options?: CommandOptions): Promise<StartedSimulator> {
    return readStarted(await this.#command({ type: "start_simulator", ...request }, options));
  }

  async stopSimulator(options?: CommandOptions): Promise<string> {
    const answer = await this.#command({ type: "stop_simulator" }, options);
    return answer.type === "result" ? (answer.status ?? "") : "";
  }

  async submitOrder(order: OrderRequest, options?: CommandOptions): Promise<Order> {
    return readOrder(await this.#command({ type: "submit_order", ...orderFields(order) }, options));
  }

  async cancelOrder(orderId: string, options?: CommandOptions): Promise<Order> {
    return readOrder(await this.#command({ type: "cancel_order", orderId }, options));
  }

  async subscribe(symbols: readonly string[], options?: CommandOptions): Promise<void> {
    await this.#command({ type: "subscribe", symbols: [...symbols] }, options);
    this.#live.symbols = [...symbols];
  }

  async requestSession(options?: CommandOptions): Promise<SessionInfo> {
    const answer = await this.#command({ type: "request_session" }, options);
    const { type, timestamp, requestId, ...info } = answer as AnswerFrame & { type: "session_info" };
    new Teller(this.#listeners).tell("onSessionInfo", info);
    return info;
  }

  async requestFullRefresh(options?: CommandOptions): Promise<void> {
    await this.#command({ type: "request_full_refresh" }, options);
  }

  async endSession(): Promise<boolean> {
    if (this.sessionId === null) throw new TypeError("there is no session yet");
    return this.rest.endSession(this.sessionId);
  }

  async refreshToken(): Promise<void> {
    this.#live.useToken(await this.#tokens.get("refresh"));
  }

  check(): void {
    this.#live.check();
  }

  dropConnection(): void {
    this.#live.drop();
  }

  close(): void {
    this.#live.close();
  }

  /** Wait for the frame that answers, reconnections included. */
  #command(fields: Unnumbered<CommandMessage>, options: CommandOptions = {}): Promise<AnswerFrame> {
    const { end } = this.#live;
    if (end !== null) return Promise.reject(end);
    const { requestId = newId(), timeoutMs = this.#timing.commandTimeoutMs } = options;
    const message: CommandMessage = { ...fields, requestId };
    return new Promise((resolve, reject) => {
      if (new TextEncoder().encode(JSON.stringify(message)).length > MAX_MESSAGE_BYTES) {
        throw new RangeError(`${message.type}: larger than ${MAX_MESSAGE_BYTES} bytes`);
      }
      const takeBack = this.#clock.after(timeoutMs, () => {
        this.#commands.remove(requestId);
        reject(new CommandTimeoutError(`${message.type}: no answer within ${timeoutMs} ms`, requestId));
      });
      const settle =
        <Value>(how: (value: Value) => void) =>
        (value: Value): void => {
          takeBack();
          how(value);
        };
      try {
        this.#commands.add(message, settle(resolve), settle(reject));
      } catch (error) {
        takeBack();
        throw error;
      }
      this.#live.wake();
    });
  }
}
