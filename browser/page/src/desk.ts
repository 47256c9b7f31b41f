import {
  type Connection,
  type ConnectionEndedError,
  type ConnectionStatus,
  connect,
  type ExchangeData,
  type Reconnected,
  type SimulatorStatus,
} from "session-service-client";
import type { Identity } from "./identity.ts";
import type { KeptTickets } from "./keptTickets.ts";
import type { KeptValues } from "./keptValues.ts";
import { Market } from "./market.ts";
import { errorWords } from "./model/errorWords.ts";
import { lossWords } from "./model/lossWords.ts";
import { ConnectionPanel } from "./panel/connectionPanel.ts";
import type { PodsPanel } from "./panel/podsPanel.ts";
import { SessionsPanel } from "./panel/sessionsPanel.ts";
import { makeTrial, type Trial } from "./trials.ts";
import { find } from "./view/dom.ts";
import type { LinkView } from "./view/linkView.ts";
import type { NoticeView } from "./view/noticeView.ts";
import { Painter } from "./view/painter.ts";

/** What the desk is given by whoever opens the page. `pods` null: not a local run. */
export interface DeskSurroundings {
  /** Base addresses of the service. */
  readonly urls: readonly string[];
  readonly deviceId: string;
  readonly tickets: KeptTickets;
  /** Where the client's id is kept between two loads of the tab. */
  readonly tabValues: KeptValues;
  readonly link: LinkView;
  readonly notice: NoticeView;
  readonly pods: PodsPanel | null;
  /** The service does not take the user's token any more. */
  readonly onRefused: (words: string) => void;
}

/** The trading desk: one user's live connection, joined to the panels that show it. */
export class Desk {
  readonly #surroundings: DeskSurroundings;
  readonly #section = find("desk", HTMLElement);
  readonly #market: Market;
  readonly #connectionPanel: ConnectionPanel;
  readonly #sessions = new SessionsPanel();
  #connection: Connection | null = null;
  #identity: Identity | null = null;

  constructor(surroundings: DeskSurroundings) {
    this.#surroundings = surroundings;
    const painter = new Painter();
    const { tickets, tabValues, notice, pods } = surroundings;
    this.#market = new Market(painter, { tickets, tabValues, notice, opensUnasked: pods !== null });
    const onTrial = pods ? (trial: Trial): void => void this.#try(trial) : null;
    this.#connectionPanel = new ConnectionPanel(painter, onTrial);
  }

  /** Connects this user, in the place of whoever was connected. */
  open(identity: Identity): void {
    this.#leave();
    this.#identity = identity;
    this.#section.hidden = false;
    this.#connect(identity);
  }

  /** Leaves, and shows nothing any more of who was here. Session and market stay for the next time. */
  close(): void {
    this.#leave();
    this.#connectionPanel.clear();
  }

  /** Colours of what is drawn on canvas follow the theme. */
  recolour(): void {
    this.#market.panel.recolour();
  }

  /** Another tab has placed orders. */
  recallTickets(): void {
    this.#surroundings.tickets.reload();
    this.#market.panel.recallTickets();
  }

  #leave(): void {
    this.#connection?.close();
    this.#connection = null;
    this.#identity = null;
    this.#section.hidden = true;
    this.#connectionPanel.follow(null);
    this.#market.follow(null);
    this.#sessions.follow(null, null);
    this.#surroundings.pods?.mark(null);
    this.#surroundings.link.hide();
    this.#surroundings.notice.clear();
  }

  #connect(identity: Identity): void {
    const { urls, deviceId, tabValues } = this.#surroundings;
    const connection = connect({
      url: urls,
      deviceId,
      getToken: (why) => identity.getToken(why),
      keepClientIdIn: tabValues,
      onExchangeData: (data) => this.#take(data),
      onStatus: (status) => this.#showStatus(status),
      onReconnected: (reconnected) => this.#returned(reconnected),
      onSimulatorStatus: (status) => this.#showSimulator(status),
      onQuality: () => this.#connectionPanel.changed(),
      onGap: (violation) => this.#noticed(`A gap: number ${violation.expected} did not come. Asking for all of it.`),
      onDuplicate: (violation) => this.#noticed(`A duplicate: number ${violation.fromSequence} came twice.`),
      onError: (notice) => this.#noticed(errorWords(notice.code, notice.message)),
      onEnd: (end) => this.#ended(end),
    });
    this.#connection = connection;
    this.#connectionPanel.follow(connection);
    this.#market.follow(connection);
    this.#surroundings.link.show("connecting", "Connecting…");
    connection.opened.then(
      (connected) => {
        if (connection !== this.#connection) return;
        this.#arrived(connection);
        this.#market.openUnasked(connected.simulatorStatus);
      },
      () => undefined, // onEnd tells why
    );
  }

  #take(data: ExchangeData): void {
    this.#market.panel.apply(data);
    if (!data.snapshot) this.#connectionPanel.noteUpdates(data.sequence - data.fromSequence + 1);
  }

  #showStatus(status: ConnectionStatus): void {
    const { link } = this.#surroundings;
    this.#connectionPanel.changed();
    this.#market.showLiveness();
    if (status.state === "open") link.show("open", this.#liveWords());
    if (status.state !== "reconnecting") return;
    this.#connectionPanel.log.lost(lossWords(status), Date.now());
    link.show("reconnecting", "Connection lost. Connecting again…");
  }

  /** The first connection is there. */
  #arrived(connection: Connection): void {
    const podName = connection.connected?.podName ?? "";
    const log = this.#connectionPanel.log;
    log.arrived({ podName, resumed: false, pauseMs: null, cause: null }, Date.now());
    this.#showPlace(connection);
  }

  #returned({ podName, resumed, pauseMs, cause }: Reconnected): void {
    this.#connectionPanel.log.arrived({ podName, resumed, pauseMs, cause }, Date.now());
    this.#market.panel.markReconnect();
    if (this.#connection) this.#showPlace(this.#connection);
  }

  /** Where the connection is, everywhere that says so. */
  #showPlace(connection: Connection): void {
    this.#surroundings.link.show("open", this.#liveWords());
    this.#surroundings.pods?.mark(connection.connected?.podName ?? null);
    this.#connectionPanel.changed();
    this.#sessions.follow(connection.rest, connection.sessionId);
    void this.#sessions.refresh();
  }

  #liveWords(): string {
    const pod = this.#connection?.connected?.podName;
    return pod ? `Live on ${pod}` : "Live";
  }

  #noticed(words: string): void {
    this.#connectionPanel.log.noticed(words, Date.now());
    this.#connectionPanel.changed();
  }

  #ended(end: ConnectionEndedError): void {
    const words = errorWords(end.code, end.reason);
    this.#connectionPanel.log.ended(words, Date.now());
    this.#connectionPanel.changed();
    this.#market.ended();
    this.#surroundings.link.show("closed", "Not connected");
    this.#surroundings.pods?.mark(null);
    if (end.code === "AUTHENTICATION_FAILED") {
      this.#surroundings.onRefused(words);
      return;
    }
    const identity = this.#identity;
    const label = end.code === "CONNECTION_REPLACED" ? "Connect here again" : "Open a new session";
    this.#surroundings.notice.show(words, identity && { label, run: () => this.open(identity) });
  }

  #showSimulator(status: SimulatorStatus): void {
    if (this.#market.show(status)) void this.#sessions.refresh();
  }

  async #try(trial: Trial): Promise<void> {
    const { pods } = this.#surroundings;
    if (!pods || !this.#identity) return;
    const result = await makeTrial(trial, this.#connection, this.#identity, pods);
    this.#connectionPanel.tellTrial(result.tone, result.words);
  }
}
