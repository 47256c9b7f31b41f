import type { Order } from "session-service-client";
import { rejectionWords } from "./errorWords.ts";
import { formatPrice, formatWhole } from "./numberFormat.ts";

/** What became of an order when it was placed, in words that follow what was ordered. */
export function orderOutcome(order: Order): string {
  const filled = `${formatWhole(order.filledQuantity)} at ${formatPrice(order.averagePrice)}`;
  switch (order.status) {
    case "REJECTED":
      return `rejected. ${rejectionWords(order.reason)}`;
    case "FILLED":
      return `filled, ${filled}.`;
    case "PARTIALLY_FILLED":
      return `partly filled, ${filled}; the rest waits.`;
    case "CANCELED":
      return order.filledQuantity > 0 ? `filled as far as there was depth, ${filled}.` : "canceled, nobody traded.";
    default:
      return "accepted, it waits at the exchange.";
  }
}
