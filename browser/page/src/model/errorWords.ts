/** What the service's error codes mean for who sits at the page, and what to do. */
const WORDS: Readonly<Record<string, string>> = {
  AUTHENTICATION_FAILED: "Your token was refused, or it has expired. Sign in with a new one.",
  FORBIDDEN: "Your token does not allow this. Ask for one with the right scope.",
  ORIGIN_NOT_ALLOWED: "The service does not accept this page's address. Open the page from the service itself.",
  SESSION_NOT_FOUND: "This session is gone. Open a new one.",
  SESSION_EXPIRED: "This session has expired. Open a new one.",
  SESSION_ENDED: "This session was ended. Open a new one.",
  SESSION_LIMIT_REACHED: "You have as many open sessions as are allowed. End one on another device, then try again.",
  CONNECTION_REPLACED: "This tab was replaced by a newer connection. Connect again to go on here.",
  DEVICE_MISMATCH: "This session belongs to another device. Open a new one.",
  SIMULATOR_LIMIT_REACHED: "You run as many markets as are allowed. End another of your sessions, then start again.",
  SIMULATOR_NOT_RUNNING: "The market is not open. Start it, then try again.",
  SIMULATOR_NOT_FOUND: "There is no market. Start one.",
  ORDER_NOT_FOUND: "The exchange does not know this order any more.",
  ORDER_NOT_CANCELABLE: "This order is closed already.",
  REQUEST_ID_REUSED: "This order was sent before. Look at your orders before you send it again.",
  UNKNOWN_SYMBOL: "The market does not trade this symbol. Choose another one.",
  RATE_LIMITED: "Too many requests. Wait a few seconds, then try again.",
  SERVICE_UNAVAILABLE: "The service cannot do this at the moment. Try again in a few seconds.",
  OVERLOADED: "The service is busy. Try again in a few seconds.",
  POD_TERMINATING: "This server is going. Try again: another one takes over.",
  INTERNAL_ERROR: "The service made a mistake. Try again; if it stays, tell its operator.",
};

/** Why the exchange refused an order, by the reason it gives. */
const REJECTIONS: Readonly<Record<string, string>> = {
  "insufficient cash": "You do not have enough cash. Buy fewer shares, or cancel an open buy order.",
  "insufficient position": "You do not hold so many shares. Sell fewer, or cancel an open sell order.",
  "position limit reached": "The position would grow beyond what is allowed. Trade fewer shares.",
  "too many open orders": "You have too many open orders. Cancel one, then try again.",
  "unknown symbol": "The market does not trade this symbol. Choose another one.",
};

/** A sentence for a code; the service's own message where the code says nothing to people. */
export function errorWords(code: string, message: string): string {
  return WORDS[code] ?? (message ? `${sentence(message)} (${code})` : `Something went wrong (${code}). Try again.`);
}

/** Why an order was rejected, and what to do. */
export function rejectionWords(reason: string | null): string {
  if (!reason) return "The exchange gave no reason.";
  return REJECTIONS[reason] ?? sentence(reason);
}

function sentence(text: string): string {
  const trimmed = text.trim().replace(/\.$/, "");
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}.`;
}
