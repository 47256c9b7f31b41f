/** How figures are written. One language, so that they line up and can be read aloud the same everywhere. */

const MINUS = "\u2212";
const LOCALE = "en-US";

const twoDecimals = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const noDecimals = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const oneDecimal = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** What stands where a figure is not known. */
export const UNKNOWN = "\u2013";

/** A price or an amount of money: two decimals, thousands grouped. */
export function formatPrice(value: number): string {
  return negativeAware(value, twoDecimals);
}

/** The same with its sign, also in front of a gain; zero has none. */
export function formatSignedPrice(value: number): string {
  return signed(value, twoDecimals, 0.005);
}

/** A share of one, as percent with its sign: 0.0123 is "+1.23%". */
export function formatSignedPercent(share: number): string {
  return `${signed(share * 100, twoDecimals, 0.005)}%`;
}

/** A count or a quantity. */
export function formatWhole(value: number): string {
  return negativeAware(value, noDecimals);
}

/** A rate, with one decimal below 100. */
export function formatRate(perSecond: number): string {
  return (perSecond < 99.95 ? oneDecimal : noDecimals).format(perSecond);
}

/** A length of time for people: "3.2 ms", "212 ms", "3.4 s", "2 min 5 s". */
export function formatDuration(ms: number): string {
  if (ms < 9.95) return `${oneDecimal.format(ms)} ms`;
  if (ms < 999.5) return `${noDecimals.format(ms)} ms`;
  if (ms < 59_950) return `${oneDecimal.format(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  return `${noDecimals.format(Math.floor(seconds / 60))} min ${seconds % 60} s`;
}

/** The local time of day, "14:05:09". */
export function formatClock(instantMs: number): string {
  const instant = new Date(instantMs);
  return [instant.getHours(), instant.getMinutes(), instant.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}

/** The local time of day; with its day, where that is not today: "19 Nov 14:05". */
export function formatInstant(instantMs: number, nowMs: number): string {
  const instant = new Date(instantMs);
  if (instant.toDateString() === new Date(nowMs).toDateString()) return formatClock(instantMs);
  const month = instant.toLocaleString(LOCALE, { month: "short" });
  return `${instant.getDate()} ${month} ${formatClock(instantMs).slice(0, 5)}`;
}

function negativeAware(value: number, format: Intl.NumberFormat): string {
  const text = format.format(Math.abs(value));
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

function signed(value: number, format: Intl.NumberFormat, zeroBelow: number): string {
  const text = format.format(Math.abs(value));
  if (Math.abs(value) < zeroBelow) return text;
  return (value < 0 ? MINUS : "+") + text;
}
