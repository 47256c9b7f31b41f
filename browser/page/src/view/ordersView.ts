import { formatClock, formatPrice, formatWhole, UNKNOWN } from "../model/numberFormat.ts";
import { type OrderLine, type OrderList, statusWords } from "../model/orderList.ts";
import { describeTicket } from "../model/orderTicket.ts";
import { find, make, setText } from "./dom.ts";
import { KeyedRows, type Row } from "./keyedRows.ts";

/** So many done orders are shown; the count tells of all. Open ones are all shown: each may have to be canceled. */
const MAX_DONE_SHOWN = 50;

/** Open orders with their cancel buttons, and done ones. */
export class OrdersView {
  readonly #open: OrderTable;
  readonly #done: OrderTable;

  /** `onCancel` is given what is shown of the order, for its answer to be told in the same words. */
  constructor(onCancel: CancelOrder) {
    this.#open = new OrderTable("open", Number.POSITIVE_INFINITY, onCancel);
    this.#done = new OrderTable("done", MAX_DONE_SHOWN, null);
  }

  draw(orders: OrderList): void {
    this.#open.show(orders.open());
    this.#done.show(orders.done());
  }
}

/** Asks the exchange; resolves when it has answered, whatever it said. */
export type CancelOrder = (line: OrderLine) => Promise<void>;

/** What was ordered, in words, as far as this page knows it. */
export function orderWords(line: OrderLine): string {
  return line.ticket ? describeTicket(line.ticket, formatPrice) : `Order in ${line.symbol}`;
}

class OrderTable {
  readonly #table: HTMLTableElement;
  readonly #empty: HTMLElement;
  readonly #count: HTMLElement;
  readonly #rows: KeyedRows<OrderLine>;
  readonly #maxShown: number;

  constructor(name: "open" | "done", maxShown: number, onCancel: CancelOrder | null) {
    this.#maxShown = maxShown;
    this.#table = find(`${name}-orders`, HTMLTableElement);
    this.#empty = find(`${name}-orders-empty`, HTMLElement);
    this.#count = find(`${name}-count`, HTMLElement);
    const title = find("orders-title", HTMLElement);
    this.#rows = new KeyedRows(
      this.#table,
      (line) => line.orderId,
      () => new OrderRow(onCancel),
      title,
    );
  }

  show(lines: readonly OrderLine[]): void {
    setText(this.#count, formatWhole(lines.length));
    this.#table.hidden = lines.length === 0;
    this.#empty.hidden = lines.length > 0;
    this.#rows.show(lines.slice(0, this.#maxShown));
  }
}

class OrderRow implements Row<OrderLine> {
  readonly element = make("tr");
  readonly #time = make("td", { class: "soft" });
  readonly #side = make("strong");
  readonly #what = make("span");
  readonly #terms = make("small");
  readonly #filled = make("td");
  readonly #average = make("td");
  readonly #status = make("td");
  readonly #cancel: HTMLButtonElement | null;
  #line: OrderLine | null = null;

  constructor(onCancel: CancelOrder | null) {
    const order = make("td", {}, this.#side, this.#what, this.#terms);
    this.element.append(this.#time, order, this.#filled, this.#average, this.#status);
    this.#cancel = onCancel ? make("button", { type: "button", class: "small" }, "Cancel") : null;
    if (!onCancel || !this.#cancel) {
      this.#status.colSpan = 2;
      return;
    }
    this.#cancel.addEventListener("click", () => void this.#askToCancel(onCancel));
    this.element.append(make("td", {}, this.#cancel));
  }

  update(line: OrderLine): void {
    if (line === this.#line) return;
    this.#line = line;
    const { ticket } = line;
    setText(this.#time, line.changedMs === null ? UNKNOWN : formatClock(line.changedMs));
    setText(this.#side, ticket ? (ticket.side === "BUY" ? "Buy" : "Sell") : "");
    setText(this.#what, ticket ? ` ${formatWhole(ticket.quantity)} ${line.symbol}` : line.symbol);
    setText(this.#terms, ticket ? termsWords(ticket.price) : "placed elsewhere");
    this.#side.dataset.sign = ticket?.side === "SELL" ? "down" : "up";
    setText(this.#filled, formatWhole(line.filledQuantity));
    setText(this.#average, line.filledQuantity > 0 ? formatPrice(line.averagePrice) : UNKNOWN);
    setText(this.#status, line.reason ? `${statusWords(line)}: ${line.reason}` : statusWords(line));
    this.#cancel?.setAttribute("aria-label", `Cancel: ${orderWords(line)}`);
  }

  async #askToCancel(onCancel: CancelOrder): Promise<void> {
    const button = this.#cancel;
    if (!button || !this.#line || button.ariaDisabled === "true") return;
    // Not `disabled`, which would take the focus from who pressed it.
    button.ariaDisabled = "true";
    setText(button, "Canceling…");
    await onCancel(this.#line);
    button.ariaDisabled = null;
    setText(button, "Cancel");
  }
}

function termsWords(price: number | null): string {
  return price === null ? "market" : `limit ${formatPrice(price)}`;
}
