import { formatPrice, formatSignedPercent, formatSignedPrice, formatWhole, UNKNOWN } from "../model/numberFormat.ts";
import type { AccountFigures, PositionLine } from "../model/profit.ts";
import { find, make, setSign, setText } from "./dom.ts";
import { KeyedRows, type Row } from "./keyedRows.ts";

/** The account's figures and its positions. */
export class AccountView {
  readonly #totalValue = find("total-value", HTMLElement);
  readonly #totalProfit = find("total-profit", HTMLElement);
  readonly #totalShare = find("total-profit-share", HTMLElement);
  readonly #openProfit = find("open-profit", HTMLElement);
  readonly #cash = find("cash", HTMLElement);
  readonly #positions = find("positions", HTMLTableElement);
  readonly #empty = find("positions-empty", HTMLElement);
  readonly #rows = new KeyedRows<PositionLine>(
    this.#positions,
    (line) => line.symbol,
    (line) => new PositionRow(line.symbol),
    find("main", HTMLElement),
  );

  /** Null: there is no market, so there is no account. */
  draw(figures: AccountFigures | null): void {
    const profit = figures?.totalProfit ?? null;
    const share = figures?.totalProfitShare ?? null;
    setText(this.#totalValue, figures ? formatPrice(figures.totalValue) : UNKNOWN);
    setText(this.#totalProfit, profit === null ? UNKNOWN : formatSignedPrice(profit));
    setText(this.#totalShare, share === null ? "" : formatSignedPercent(share));
    setText(this.#openProfit, figures ? formatSignedPrice(figures.openProfit) : UNKNOWN);
    setText(this.#cash, figures ? formatPrice(figures.cash) : UNKNOWN);
    setSign(this.#totalProfit, profit);
    setSign(this.#totalShare, profit);
    setSign(this.#openProfit, figures?.openProfit ?? null);
    const positions = figures?.positions ?? [];
    this.#rows.show(positions);
    this.#positions.hidden = positions.length === 0;
    this.#empty.hidden = positions.length > 0;
  }
}

class PositionRow implements Row<PositionLine> {
  readonly element: HTMLTableRowElement;
  readonly #quantity = make("td");
  readonly #cost = make("td");
  readonly #value = make("td");
  readonly #profit = make("td");

  constructor(symbol: string) {
    const header = make("th", { scope: "row" }, symbol);
    this.element = make("tr", {}, header, this.#quantity, this.#cost, this.#value, this.#profit);
  }

  update(line: PositionLine): void {
    setText(this.#quantity, formatWhole(line.quantity));
    setText(this.#cost, formatPrice(line.averageCost));
    setText(this.#value, formatPrice(line.marketValue));
    setText(this.#profit, formatSignedPrice(line.profit));
    setSign(this.#profit, line.profit);
  }
}
