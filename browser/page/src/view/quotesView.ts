import { formatPrice, formatSignedPercent } from "../model/numberFormat.ts";
import type { QuoteBoard, QuoteLine } from "../model/quoteBoard.ts";
import { find, make, setData, setSign, setText } from "./dom.ts";
import { KeyedRows, type Row } from "./keyedRows.ts";

const FLASH_MS = 250;
/** Between the beginnings of two flashes of one price: never three in a second (WCAG 2.2, 2.3.1). */
const FLASH_EVERY_MS = 600;

/** The table of quotes. The buttons in it choose the symbol that chart and ticket show. */
export class QuotesView {
  readonly #table = find("quotes", HTMLTableElement);
  readonly #stale = find("quotes-stale", HTMLElement);
  readonly #empty = find("quotes-empty", HTMLElement);
  readonly #rows: KeyedRows<QuoteLine>;
  readonly #lines = new Map<string, QuoteRow>();
  #selected: string | null = null;

  constructor(onSelect: (symbol: string) => void) {
    const makeRow = (line: QuoteLine): QuoteRow => {
      const row = new QuoteRow(line.symbol, onSelect);
      row.select(line.symbol === this.#selected);
      this.#lines.set(line.symbol, row);
      return row;
    };
    this.#rows = new KeyedRows(this.#table, (line) => line.symbol, makeRow, find("main", HTMLElement));
  }

  select(symbol: string | null): void {
    this.#selected = symbol;
    for (const [other, row] of this.#lines) row.select(other === symbol);
  }

  setStale(stale: boolean): void {
    this.#stale.hidden = !stale;
  }

  /** Shows exactly these symbols. */
  showAll(board: QuoteBoard): void {
    const lines = board.symbols.map((symbol) => board.line(symbol)).filter((line) => line !== undefined);
    this.#rows.show(lines);
    for (const symbol of this.#lines.keys()) if (!board.line(symbol)) this.#lines.delete(symbol);
    this.#table.hidden = lines.length === 0;
    this.#empty.hidden = lines.length > 0;
  }

  /** Draws the lines that changed; true while a price still flashes, so that this is to be called again. */
  draw(board: QuoteBoard, nowMs: number): boolean {
    for (const symbol of board.takeChanged()) {
      const line = board.line(symbol);
      const row = this.#lines.get(symbol);
      if (line && row) row.change(line, nowMs);
    }
    let flashing = false;
    for (const row of this.#lines.values()) flashing = row.fade(nowMs) || flashing;
    return flashing;
  }
}

class QuoteRow implements Row<QuoteLine> {
  readonly element: HTMLTableRowElement;
  readonly #button: HTMLButtonElement;
  readonly #bid = make("td");
  readonly #ask = make("td");
  readonly #last = make("span");
  readonly #change = make("td");
  #drawn: QuoteLine | null = null;
  #flashedMs = Number.NEGATIVE_INFINITY;

  constructor(symbol: string, onSelect: (symbol: string) => void) {
    this.#button = make("button", { type: "button", "aria-pressed": "false" }, symbol);
    this.#button.addEventListener("click", () => onSelect(symbol));
    this.element = make(
      "tr",
      {},
      make("th", { scope: "row" }, this.#button),
      this.#bid,
      this.#ask,
      make("td", {}, this.#last),
      this.#change,
    );
  }

  select(selected: boolean): void {
    this.#button.setAttribute("aria-pressed", String(selected));
  }

  update(line: QuoteLine): void {
    if (line === this.#drawn) return;
    setText(this.#bid, formatPrice(line.bid));
    setText(this.#ask, formatPrice(line.ask));
    setText(this.#last, formatPrice(line.last));
    setText(this.#change, formatSignedPercent(line.changeShare));
    setSign(this.#change, line.changeShare * 100);
    this.#drawn = line;
  }

  /** The same, and the last price flashes when it has moved. */
  change(line: QuoteLine, nowMs: number): void {
    const before = this.#drawn;
    this.update(line);
    if (!before || before.last === line.last || nowMs - this.#flashedMs < FLASH_EVERY_MS) return;
    setData(this.#last, "flash", line.last > before.last ? "up" : "down");
    this.#flashedMs = nowMs;
  }

  fade(nowMs: number): boolean {
    if (!this.#last.dataset.flash) return false;
    if (nowMs - this.#flashedMs < FLASH_MS) return true;
    setData(this.#last, "flash", null);
    return false;
  }
}
