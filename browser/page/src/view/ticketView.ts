import { formatPrice } from "../model/numberFormat.ts";
import {
  estimateValue,
  judgeTicket,
  type OrderTicket,
  type OrderType,
  type Side,
  type TicketDraft,
  type TicketProblem,
} from "../model/orderTicket.ts";
import type { QuoteBoard } from "../model/quoteBoard.ts";
import { find, make, setData, setText } from "./dom.ts";

/** What became of an order, in words. */
export interface TicketResult {
  readonly tone: "good" | "bad" | "busy";
  readonly words: string;
}

/** The order ticket: a form that says what is wrong with it, what it would cost, and what became of it. */
export class TicketView {
  readonly #form = find("ticket", HTMLFormElement);
  readonly #symbol = find("symbol", HTMLSelectElement);
  readonly #quantity = find("quantity", HTMLInputElement);
  readonly #price = find("price", HTMLInputElement);
  readonly #priceField = find("price-field", HTMLElement);
  readonly #estimate = find("estimate", HTMLElement);
  readonly #estimateLabel = find("estimate-label", HTMLElement);
  readonly #send = find("send", HTMLButtonElement);
  readonly #result = find("ticket-result", HTMLElement);
  readonly #board: QuoteBoard;
  #judged = false;
  #sending = false;
  /** Grows where what was sent before is of no interest any more. */
  #round = 0;

  constructor(
    board: QuoteBoard,
    onOrder: (ticket: OrderTicket) => Promise<TicketResult>,
    onSelect: (symbol: string) => void,
  ) {
    this.#board = board;
    this.#form.addEventListener("input", () => this.#edited());
    this.#symbol.addEventListener("change", () => onSelect(this.#symbol.value));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit(onOrder);
    });
    this.#edited();
  }

  /** The symbols that can be traded. */
  offer(symbols: readonly string[]): void {
    const offered = [...this.#symbol.options].map((option) => option.value);
    if (offered.length === symbols.length && offered.every((symbol, index) => symbol === symbols[index])) return;
    const chosen = this.#symbol.value;
    this.#symbol.replaceChildren(...symbols.map((symbol) => make("option", { value: symbol }, symbol)));
    if (symbols.includes(chosen)) this.#symbol.value = chosen;
    this.#edited();
  }

  select(symbol: string | null): void {
    if (symbol === null || this.#symbol.value === symbol) return;
    this.#symbol.value = symbol;
    this.#price.value = "";
    this.#edited();
  }

  /** What became of the last order is nobody's business any more. */
  forget(): void {
    this.#round += 1;
    this.#sending = false;
    this.#tell({ tone: "busy", words: "" });
    this.#edited();
  }

  /** Brings the estimate up to the latest quotes. */
  draw(): void {
    const draft = this.#draft();
    const value = estimateValue(draft, this.#board.line(draft.symbol));
    setText(this.#estimate, value === null ? "" : formatPrice(value));
  }

  #draft(): TicketDraft {
    const fields = new FormData(this.#form);
    const orderType: OrderType = fields.get("orderType") === "LIMIT" ? "LIMIT" : "MARKET";
    const side: Side = fields.get("side") === "SELL" ? "SELL" : "BUY";
    const { value: symbol } = this.#symbol;
    return { symbol, side, orderType, quantity: this.#quantity.value, price: this.#price.value };
  }

  #edited(): void {
    const draft = this.#draft();
    const isLimit = draft.orderType === "LIMIT";
    if (isLimit && this.#priceField.hidden && this.#price.value === "") this.#suggestPrice(draft);
    this.#priceField.hidden = !isLimit;
    const verb = draft.side === "BUY" ? "Buy" : "Sell";
    setText(this.#send, this.#sending ? "Sending…" : `${verb} ${draft.symbol}`);
    setText(this.#estimateLabel, draft.side === "BUY" ? "Estimated cost" : "Estimated proceeds");
    setData(this.#send, "side", draft.side);
    if (this.#judged) this.#showProblems(draft);
    this.draw();
  }

  #suggestPrice({ symbol, side }: TicketDraft): void {
    const quote = this.#board.line(symbol);
    if (quote) this.#price.value = (side === "BUY" ? quote.bid : quote.ask).toFixed(2);
  }

  async #submit(onOrder: (ticket: OrderTicket) => Promise<TicketResult>): Promise<void> {
    if (this.#sending) return;
    const draft = this.#draft();
    const verdict = judgeTicket(draft, this.#board.symbols);
    this.#judged = !verdict.ok;
    const first = this.#showProblems(draft);
    if (!verdict.ok) {
      this.#tell({ tone: "bad", words: "The order was not sent. Correct what is marked above." });
      if (first) find(first.field, HTMLElement).focus();
      return;
    }
    const round = this.#round;
    this.#sending = true;
    this.#edited();
    this.#tell({ tone: "busy", words: "Sending the order…" });
    const result = await onOrder(verdict.ticket);
    if (round !== this.#round) return;
    this.#tell(result);
    this.#sending = false;
    this.#edited();
  }

  #showProblems(draft: TicketDraft): TicketProblem | undefined {
    const verdict = judgeTicket(draft, this.#board.symbols);
    const problems = verdict.ok ? [] : verdict.problems;
    for (const field of ["symbol", "quantity", "price"] as const) {
      const problem = problems.find((one) => one.field === field);
      setText(find(`${field}-problem`, HTMLElement), problem?.words ?? "");
      find(field, HTMLElement).setAttribute("aria-invalid", String(problem !== undefined));
    }
    return problems[0];
  }

  #tell(result: TicketResult): void {
    setData(this.#result, "tone", result.tone);
    setText(this.#result, result.words);
  }
}
