import type { ExchangeData } from "session-service-client";
import { type OrderLine, OrderList, type TicketMemory } from "../model/orderList.ts";
import type { OrderTicket } from "../model/orderTicket.ts";
import { PriceHistory } from "../model/priceHistory.ts";
import { type AccountFigures, accountFigures } from "../model/profit.ts";
import { QuoteBoard } from "../model/quoteBoard.ts";
import { AccountView } from "../view/accountView.ts";
import { ChartView } from "../view/chartView.ts";
import { OrdersView } from "../view/ordersView.ts";
import type { Painter } from "../view/painter.ts";
import { QuotesView } from "../view/quotesView.ts";
import { type TicketResult, TicketView } from "../view/ticketView.ts";

/** The least time between two drawings. A price cannot be read faster; the chart costs most. */
const QUOTES_EVERY_MS = 33;
const ACCOUNT_EVERY_MS = 200;
const CHART_EVERY_MS = 125;
/** Marks of reconnects on the chart. */
const MAX_MARKS = 50;

/** What the panel asks of the connection. Neither rejects: what went wrong is in the result. */
export interface MarketOrders {
  submit(ticket: OrderTicket): Promise<TicketResult>;
  cancel(line: OrderLine): Promise<void>;
}

/** Everything that shows exchange data: quotes, chart, ticket, orders, positions. Its models, and when each is drawn. */
export class MarketPanel {
  readonly orders: OrderList;
  readonly #board = new QuoteBoard();
  readonly #history = new PriceHistory();
  readonly #quotesView: QuotesView;
  readonly #chartView: ChartView;
  readonly #ticketView: TicketView;
  readonly #ordersView: OrdersView;
  readonly #accountView = new AccountView();
  readonly #drawQuotes: () => void;
  readonly #drawChart: () => void;
  readonly #drawOrders: () => void;
  readonly #drawAccount: () => void;
  #epoch: number | null = null;
  #initialCash: number | null = null;
  #portfolio: ExchangeData["portfolio"] = null;
  #selected: string | null = null;
  #marks_s: number[] = [];
  #newest_s = 0;

  constructor(painter: Painter, tickets: TicketMemory, market: MarketOrders) {
    this.orders = new OrderList(tickets);
    const select = (symbol: string): void => this.#select(symbol);
    this.#quotesView = new QuotesView(select);
    this.#ticketView = new TicketView(this.#board, (ticket) => market.submit(ticket), select);
    this.#ordersView = new OrdersView((line) => market.cancel(line));
    this.#chartView = new ChartView(() => this.#paintChart());
    this.#drawQuotes = painter.part(QUOTES_EVERY_MS, (nowMs) => this.#paintQuotes(nowMs));
    this.#drawChart = painter.part(CHART_EVERY_MS, () => this.#paintChart());
    this.#drawOrders = painter.part(0, () => this.#ordersView.draw(this.orders));
    this.#drawAccount = painter.part(ACCOUNT_EVERY_MS, () => this.#accountView.draw(this.#figures()));
  }

  /** Takes what one frame brought. A new epoch is another market: nothing of the one before it holds. */
  apply(data: ExchangeData): void {
    if (data.epoch !== this.#epoch) this.#forget(data.epoch);
    const symbolsMayChange = data.snapshot || this.#board.symbols.length === 0;
    this.#newest_s = data.timestampMs / 1000;
    if (data.quotes.length > 0 || data.snapshot) {
      this.#board.apply(data.quotes, data.snapshot);
      this.#history.add(data.quotes, data.timestampMs);
      if (symbolsMayChange) this.#offerSymbols();
      this.#drawQuotes();
      this.#drawChart();
    }
    if (data.orderUpdates.length > 0 || data.snapshot) {
      this.orders.apply(data.orderUpdates, data.snapshot, data.timestampMs);
      this.#drawOrders();
    }
    if (data.portfolio !== null) {
      this.#portfolio = data.portfolio;
      this.#drawAccount();
    }
  }

  /** With how much cash the market began; null while that is not known. */
  setInitialCash(initialCash: number | null): void {
    this.#initialCash = initialCash;
    this.#drawAccount();
  }

  /** A ticket that became an order: updates do not say what was ordered. */
  noteOrder(orderId: string, ticket: OrderTicket): void {
    this.orders.note(orderId, ticket);
    this.#drawOrders();
  }

  /** Another tab has placed orders. */
  recallTickets(): void {
    this.orders.recall();
    this.#drawOrders();
  }

  /** The connection came back: a mark on the chart, at the market's present instant. */
  markReconnect(): void {
    this.#marks_s = [...this.#marks_s, this.#newest_s].slice(-MAX_MARKS);
    this.#chartView.mark(this.#marks_s);
  }

  /** Whether quotes go on, or are the last that were known. */
  setLive(live: boolean): void {
    this.#quotesView.setStale(!live && this.#board.symbols.length > 0);
  }

  recolour(): void {
    this.#chartView.recolour();
  }

  /** There is no market any more, or it is somebody else's. */
  clear(): void {
    this.#forget(null);
    this.#ticketView.forget();
    this.#initialCash = null;
    this.#offerSymbols();
    this.#drawQuotes();
    this.#drawChart();
    this.#drawOrders();
    this.#drawAccount();
  }

  #forget(epoch: number | null): void {
    this.#epoch = epoch;
    this.#board.clear();
    this.#history.clear();
    this.orders.clear();
    this.#portfolio = null;
    this.#marks_s = [];
    this.#chartView.mark([]);
  }

  #select(symbol: string | null): void {
    this.#selected = symbol;
    this.#quotesView.select(symbol);
    this.#ticketView.select(symbol);
    this.#paintChart();
  }

  #offerSymbols(): void {
    const { symbols } = this.#board;
    this.#quotesView.showAll(this.#board);
    this.#ticketView.offer(symbols);
    if (this.#selected === null || !symbols.includes(this.#selected)) this.#select(symbols[0] ?? null);
  }

  #figures(): AccountFigures | null {
    return this.#portfolio && accountFigures(this.#portfolio, this.#initialCash);
  }

  #paintQuotes(nowMs: number): void {
    if (this.#quotesView.draw(this.#board, nowMs)) this.#drawQuotes();
    this.#ticketView.draw();
  }

  #paintChart(): void {
    const symbol = this.#selected;
    this.#chartView.draw(symbol, this.#history.columns(symbol ?? ""), this.#board.line(symbol ?? ""));
  }
}
