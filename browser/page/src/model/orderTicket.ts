/** What was typed into the order ticket, and whether an exchange could take it. */

export type Side = "BUY" | "SELL";
export type OrderType = "MARKET" | "LIMIT";

/** An order that may be sent. `price` is there for LIMIT only. */
export interface OrderTicket {
  readonly symbol: string;
  readonly side: Side;
  readonly orderType: OrderType;
  readonly quantity: number;
  readonly price: number | null;
}

/** The ticket's fields as the form has them. */
export interface TicketDraft {
  readonly symbol: string;
  readonly side: Side;
  readonly orderType: OrderType;
  readonly quantity: string;
  readonly price: string;
}

/** What is wrong with one field, in words that say what to do. */
export interface TicketProblem {
  readonly field: "symbol" | "quantity" | "price";
  readonly words: string;
}

export type TicketVerdict =
  | { readonly ok: true; readonly ticket: OrderTicket }
  | { readonly ok: false; readonly problems: readonly TicketProblem[] };

export const MAX_QUANTITY = 2 ** 31 - 1;
export const MAX_PRICE = 10_000_000;

/** Every problem is told at once, in the order of the fields. */
export function judgeTicket(draft: TicketDraft, symbols: readonly string[]): TicketVerdict {
  const problems: TicketProblem[] = [];
  if (!symbols.includes(draft.symbol)) {
    const closed = symbols.length === 0;
    const words = closed ? "The market is not open. Start it first." : "Choose a symbol that the market trades.";
    problems.push({ field: "symbol", words });
  }
  const quantity = readNumber(draft.quantity);
  const quantityWords = objectionToQuantity(draft.quantity, quantity);
  if (quantityWords) problems.push({ field: "quantity", words: quantityWords });
  const isLimit = draft.orderType === "LIMIT";
  const price = isLimit ? readNumber(draft.price) : null;
  const priceWords = isLimit ? objectionToPrice(draft.price, price ?? Number.NaN) : "";
  if (priceWords) problems.push({ field: "price", words: priceWords });
  if (problems.length > 0) return { ok: false, problems };
  return {
    ok: true,
    ticket: { symbol: draft.symbol, side: draft.side, orderType: draft.orderType, quantity, price },
  };
}

/** "Buy 10 AAPL at market", "Sell 5 MSFT at 410.50 or better". */
export function describeTicket(ticket: OrderTicket, formatPrice: (price: number) => string): string {
  const verb = ticket.side === "BUY" ? "Buy" : "Sell";
  const terms = ticket.price === null ? "at market" : `at ${formatPrice(ticket.price)} or better`;
  return `${verb} ${ticket.quantity} ${ticket.symbol} ${terms}`;
}

/** What the order would cost or bring at these quotes; null while that cannot be said. */
export function estimateValue(draft: TicketDraft, quote: { bid: number; ask: number } | undefined): number | null {
  const quantity = readNumber(draft.quantity);
  if (objectionToQuantity(draft.quantity, quantity)) return null;
  if (draft.orderType === "LIMIT") {
    const price = readNumber(draft.price);
    return objectionToPrice(draft.price, price) ? null : quantity * price;
  }
  if (!quote) return null;
  return quantity * (draft.side === "BUY" ? quote.ask : quote.bid);
}

function objectionToQuantity(typed: string, quantity: number): string {
  if (typed.trim() === "") return "Enter how many shares.";
  if (!Number.isInteger(quantity) || quantity < 1) return "Enter a whole number of shares, 1 or more.";
  if (quantity > MAX_QUANTITY) return `Enter at most ${MAX_QUANTITY.toLocaleString("en-US")} shares.`;
  return "";
}

function objectionToPrice(typed: string, price: number): string {
  if (typed.trim() === "") return "Enter the price of your limit order.";
  if (!Number.isFinite(price) || price <= 0) return "Enter a price above 0, such as 189.50.";
  if (price > MAX_PRICE) return `Enter a price of at most ${MAX_PRICE.toLocaleString("en-US")}.`;
  if (!/^\d*\.?\d{0,2}0*$/.test(withoutGrouping(typed))) return "Enter a price in steps of 0.01.";
  return "";
}

/** NaN for what is no plain decimal number; thousands may be grouped by commas or spaces. */
function readNumber(typed: string): number {
  const text = withoutGrouping(typed);
  return /^\d+\.?\d*$|^\.\d+$/.test(text) ? Number(text) : Number.NaN;
}

function withoutGrouping(typed: string): string {
  return typed.trim().replace(/[\s,](?=\d{3}(\D|$))/g, "");
}
