import {
  type Connection,
  type ConnectionEndedError,
  type ConnectionStatus,
  connect,
  type ExchangeData,
  type OrderRequest,
  type Reconnected,
  ServiceError,
  type SimulatorStatus,
} from "session-service-client";
import { cutConnection } from "./cutConnection.ts";
import type { Identity } from "./identity.ts";
import type { KeptTickets } from "./keptTickets.ts";
import type { KeptValues } from "./keptValues.ts";
import { errorWords, rejectionWords } from "./model/errorWords.ts";
import { lossWords } from "./model/lossWords.ts";
import { formatDuration, formatPrice, formatWhole } from "./model/numberFormat.ts";
import type { OrderLine } from "./model/orderList.ts";
import { describeTicket, type OrderTicket } from "./model/orderTicket.ts";
import { NO_SIMULATOR } from "./model/simulatorProgress.ts";
import { ConnectionPanel } from "./panel/connectionPanel.ts";
import { MarketPanel } from "./panel/marketPanel.ts";
import type { PodsPanel } from "./panel/podsPanel.ts";
import { SessionsPanel } from "./panel/sessionsPanel.ts";
import type { Trial } from "./view/connectionView.ts";
import { find } from "./view/dom.ts";
import type { LinkView } from "./view/linkView.ts";
import { MarketView } from "./view/marketView.ts";
import type { NoticeView } from "./view/noticeView.ts";
import { orderWords } from "./view/ordersView.ts";
import { Painter } from "./view/painter.ts";
import type { TicketResult } from "./view/ticketView.ts";

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
  readonly #market: MarketPanel;
  readonly #connectionPanel: ConnectionPanel;
  readonly #sessions = new SessionsPanel();
  readonly #marketView: MarketView;
  #connection: Connection | null = null;
  #identity: Identity | null = null;
  #simulatorId: string | null = null;
  #arrivals = 0;

  constructor(surroundings: DeskSurroundings) {
    this.#surroundings = surroundings;
    const painter = new Painter();
    this.#market = new MarketPanel(painter, surroundings.tickets, {
      submit: (ticket) => this.#submit(ticket),
      cancel: (line) => void this.#cancel(line),
    });
    const onTrial = surroundings.pods ? (trial: Trial): void => void this.#try(trial) : null;
    this.#connectionPanel = new ConnectionPanel(painter, onTrial);
    this.#marketView = new MarketView(
      () => void this.#startMarket(),
      () => void this.#stopMarket(),
    );
  }

  /** Connects this user, in the place of whoever was connected. */
  open(identity: Identity): void {
    this.close();
    this.#identity = identity;
    this.#section.hidden = false;
    this.#market.clear();
    this.#marketView.draw(NO_SIMULATOR);
    this.#connect(identity);
  }

  /** Leaves; session and market stay for the next time. */
  close(): void {
    this.#connection?.close();
    this.#connection = null;
    this.#identity = null;
    this.#section.hidden = true;
    this.#connectionPanel.follow(null);
    this.#sessions.follow(null, null);
    this.#surroundings.pods?.mark(null);
    this.#surroundings.link.hide();
    this.#surroundings.notice.clear();
  }

  /** Colours of what is drawn on canvas follow the theme. */
  recolour(): void {
    this.#market.recolour();
  }

  /** Another tab has placed orders. */
  recallTickets(): void {
    this.#surroundings.tickets.reload();
    this.#market.recallTickets();
  }

  #connect(identity: Identity): void {
    this.#arrivals = 0;
    this.#simulatorId = null;
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
    this.#surroundings.link.show("connecting", "Connecting…");
    connection.opened.then(
      (connected) => {
        if (connection !== this.#connection) return;
        this.#arrived(connection);
        if (this.#surroundings.pods && connected.simulatorStatus === "NONE") void this.#startMarket();
      },
      () => undefined, // onEnd tells why
    );
  }

  #take(data: ExchangeData): void {
    this.#market.apply(data);
    if (!data.snapshot) this.#connectionPanel.noteUpdates(data.sequence - data.fromSequence + 1);
  }

  #showStatus(status: ConnectionStatus): void {
    const { link } = this.#surroundings;
    this.#connectionPanel.changed();
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
    this.#market.markReconnect();
    if (this.#connection) this.#showPlace(this.#connection);
  }

  /** Where the connection is, everywhere that says so. */
  #showPlace(connection: Connection): void {
    this.#arrivals += 1;
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
    this.#marketView.draw(status);
    if (status.status !== "RUNNING" || status.simulatorId === this.#simulatorId) return;
    this.#simulatorId = status.simulatorId;
    void this.#readInitialCash();
    void this.#sessions.refresh();
  }

  async #readInitialCash(): Promise<void> {
    const connection = this.#connection;
    if (!connection?.sessionId) return;
    try {
      const simulator = await connection.rest.findSimulator(connection.sessionId);
      if (connection === this.#connection) this.#market.setInitialCash(simulator?.initialCash ?? null);
    } catch {
      // Profit stays unknown until the next market or the next visit; everything else goes on.
      this.#market.setInitialCash(null);
    }
  }

  async #startMarket(): Promise<void> {
    const connection = this.#connection;
    if (!connection) return;
    this.#marketView.draw({ status: "CREATING", reason: null, queuePosition: null });
    try {
      await connection.startSimulator();
      this.#surroundings.notice.clear();
    } catch (error) {
      if (connection !== this.#connection) return;
      this.#marketView.draw(connection.simulator ?? NO_SIMULATOR);
      const again = { label: "Try again", run: () => void this.#startMarket() };
      this.#surroundings.notice.show(`The market was not started. ${failureWords(error)}`, again);
    }
  }

  async #stopMarket(): Promise<void> {
    try {
      await this.#connection?.stopSimulator();
    } catch (error) {
      this.#surroundings.notice.show(`The market was not stopped. ${failureWords(error)}`);
    }
  }

  async #submit(ticket: OrderTicket): Promise<TicketResult> {
    const connection = this.#connection;
    const words = describeTicket(ticket, formatPrice);
    if (!connection) return { tone: "bad", words: `${words}: not sent, you are not connected.` };
    const began = performance.now();
    try {
      const order = await connection.submitOrder(orderRequest(ticket));
      this.#market.noteOrder(order.orderId, ticket);
      if (order.status === "REJECTED") {
        return { tone: "bad", words: `${words}: rejected. ${rejectionWords(order.reason)}` };
      }
      const took = formatDuration(performance.now() - began);
      return { tone: "good", words: `${words}: ${orderOutcome(order.status, order)} (${took}).` };
    } catch (error) {
      return { tone: "bad", words: `${words}: ${failureWords(error)}` };
    }
  }

  async #cancel(line: OrderLine): Promise<void> {
    try {
      await this.#connection?.cancelOrder(line.orderId);
    } catch (error) {
      this.#surroundings.notice.show(`${orderWords(line)} was not canceled. ${failureWords(error)}`);
    }
  }

  async #try(trial: Trial): Promise<void> {
    const { pods } = this.#surroundings;
    const connected = this.#connection?.connected;
    const panel = this.#connectionPanel;
    if (!pods || !connected || !this.#identity) return;
    if (trial === "cut") {
      try {
        const token = await this.#identity.getToken("rest");
        const cut = await cutConnection(connected.url, connected.clientId, token);
        panel.tellTrial(cut > 0 ? "good" : "bad", cut > 0 ? "Cut." : "There was no connection to cut. Try again.");
      } catch {
        panel.tellTrial("bad", `${connected.podName} did not do it. Try again when the connection is back.`);
      }
      return;
    }
    const answer = await (trial === "stop" ? pods.stop(connected.podName) : pods.kill(connected.podName));
    panel.tellTrial(answer.tone, answer.words);
  }
}

function orderRequest({ symbol, side, quantity, orderType, price }: OrderTicket): OrderRequest {
  return { symbol, side, quantity, orderType, ...(price === null ? {} : { price }) };
}

function orderOutcome(status: string, order: { filledQuantity: number; averagePrice: number }): string {
  const filled = `${formatWhole(order.filledQuantity)} at ${formatPrice(order.averagePrice)}`;
  switch (status) {
    case "FILLED":
      return `filled, ${filled}`;
    case "PARTIALLY_FILLED":
      return `partly filled, ${filled}; the rest waits`;
    case "CANCELED":
      return order.filledQuantity > 0 ? `filled as far as there was depth, ${filled}` : "canceled, nobody traded";
    default:
      return "accepted, it waits at the exchange";
  }
}

function failureWords(error: unknown): string {
  if (error instanceof ServiceError) return errorWords(error.code, error.message);
  if (error instanceof Error && "code" in error && error.code === "COMMAND_TIMEOUT") {
    return "no answer came in time; it may have been carried out. Look at your orders before you try again.";
  }
  return "the connection is over. Connect again, then look at your orders.";
}
