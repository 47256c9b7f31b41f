import type { Connection, OrderRequest, SimulatorState, SimulatorStatus } from "session-service-client";
import type { KeptTickets } from "./keptTickets.ts";
import type { KeptValues } from "./keptValues.ts";
import { failureWords } from "./model/failureWords.ts";
import { formatDuration, formatPrice } from "./model/numberFormat.ts";
import type { OrderLine } from "./model/orderList.ts";
import { orderOutcome } from "./model/orderOutcome.ts";
import { describeTicket, type OrderTicket } from "./model/orderTicket.ts";
import { NO_SIMULATOR, OUT_OF_SIGHT } from "./model/simulatorProgress.ts";
import { type MarketOrders, MarketPanel } from "./panel/marketPanel.ts";
import { MarketView } from "./view/marketView.ts";
import type { NoticeView } from "./view/noticeView.ts";
import { orderWords } from "./view/ordersView.ts";
import type { Painter } from "./view/painter.ts";
import type { TicketResult } from "./view/ticketView.ts";

/** In the tab's values where its user has closed the market. */
const CLOSED_KEY = "session-service.market-closed";

const NOT_LIVE: ReadonlySet<SimulatorState> = new Set(["NONE", "STOPPED", "ERROR"]);

export interface MarketSurroundings {
  readonly tickets: KeptTickets;
  readonly tabValues: KeptValues;
  readonly notice: NoticeView;
  /** In the local run the market opens with the page: nobody pays for it, and without it there is nothing to see. */
  readonly opensUnasked: boolean;
}

/** The session's market: opening and closing it, placing and canceling orders, and telling what became of that. */
export class Market implements MarketOrders {
  readonly panel: MarketPanel;
  readonly #view: MarketView;
  readonly #surroundings: MarketSurroundings;
  #connection: Connection | null = null;
  /** That runs, null where its id is not known yet; undefined: none does. */
  #simulatorId: string | null | undefined;

  constructor(painter: Painter, surroundings: MarketSurroundings) {
    this.#surroundings = surroundings;
    this.panel = new MarketPanel(painter, surroundings.tickets, this);
    this.#view = new MarketView(
      () => void this.#start(),
      () => void this.#stop(),
    );
  }

  /** Another connection, of whoever is signed in by now: nothing is known of its market yet. */
  follow(connection: Connection | null): void {
    this.#connection = connection;
    this.#simulatorId = undefined;
    this.panel.clear();
    this.#view.draw(NO_SIMULATOR);
    this.showLiveness();
  }

  /** Opens the market where that need not be asked for. Whoever has closed it in this tab finds it closed. */
  openUnasked(status: SimulatorState): void {
    const { opensUnasked, tabValues } = this.#surroundings;
    if (opensUnasked && NOT_LIVE.has(status) && tabValues.getItem(CLOSED_KEY) === null) void this.#start();
  }

  /** Shows what the simulator does; true where it is another one that has begun to run. */
  show(status: SimulatorStatus): boolean {
    this.#view.draw(status);
    this.showLiveness();
    if (NOT_LIVE.has(status.status)) this.#simulatorId = undefined;
    if (status.status !== "RUNNING" || status.simulatorId === this.#simulatorId) return false;
    this.#simulatorId = status.simulatorId;
    void this.#readInitialCash();
    return true;
  }

  /** The connection is over for good. What is shown stays, and is said to be old. */
  ended(): void {
    this.#simulatorId = undefined;
    this.#view.draw(OUT_OF_SIGHT);
    this.showLiveness();
  }

  /** Says whether what is shown goes on at this moment. */
  showLiveness(): void {
    const connection = this.#connection;
    this.panel.setLive(connection?.status.state === "open" && connection.simulator?.status === "RUNNING");
  }

  async submit(ticket: OrderTicket): Promise<TicketResult> {
    const words = describeTicket(ticket, formatPrice);
    const connection = this.#connection;
    if (!connection || connection.end) {
      return { tone: "bad", words: `${words}: not sent, since you are not connected.` };
    }
    const beganMs = performance.now();
    try {
      const order = await connection.submitOrder(orderRequest(ticket));
      this.panel.noteOrder(order.orderId, ticket);
      const took = formatDuration(performance.now() - beganMs);
      const tone = order.status === "REJECTED" ? "bad" : "good";
      return { tone, words: `${words}: ${orderOutcome(order)} Answered in ${took}.` };
    } catch (error) {
      return { tone: "bad", words: `${words}: ${failureWords(error)}` };
    }
  }

  async cancel(line: OrderLine): Promise<void> {
    const connection = this.#connection;
    try {
      await connection?.cancelOrder(line.orderId);
    } catch (error) {
      if (connection === this.#connection)
        this.#surroundings.notice.show(`${orderWords(line)}, to be canceled: ${failureWords(error)}`);
    }
  }

  async #start(): Promise<void> {
    const connection = this.#connection;
    if (!connection) return;
    this.#view.draw({ status: "CREATING", reason: null, queuePosition: null });
    try {
      await connection.startSimulator();
      this.#surroundings.tabValues.removeItem(CLOSED_KEY);
    } catch (error) {
      if (connection !== this.#connection) return;
      this.#view.draw(connection.simulator ?? NO_SIMULATOR);
      const again = { label: "Try again", run: () => void this.#start() };
      this.#surroundings.notice.show(`The market was not started. ${failureWords(error)}`, again);
    }
  }

  async #stop(): Promise<void> {
    const connection = this.#connection;
    try {
      await connection?.stopSimulator();
      this.#surroundings.tabValues.setItem(CLOSED_KEY, "1");
    } catch (error) {
      if (connection === this.#connection)
        this.#surroundings.notice.show(`The market was not stopped. ${failureWords(error)}`);
    }
  }

  async #readInitialCash(): Promise<void> {
    const connection = this.#connection;
    if (!connection?.sessionId) return;
    try {
      const simulator = await connection.rest.findSimulator(connection.sessionId);
      if (connection === this.#connection) this.panel.setInitialCash(simulator?.initialCash ?? null);
    } catch {
      // Profit stays unknown until the next market or the next visit; everything else goes on.
      if (connection === this.#connection) this.panel.setInitialCash(null);
    }
  }
}

function orderRequest({ symbol, side, quantity, orderType, price }: OrderTicket): OrderRequest {
  return { symbol, side, quantity, orderType, ...(price === null ? {} : { price }) };
}
