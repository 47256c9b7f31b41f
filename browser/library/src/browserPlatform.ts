/** The browser's own parts, where nothing else is given. */

import type { Clock, PageSignals, Platform, SocketFactory } from "./platform.ts";

/** A longer one would be over at once; who waits longer looks again. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const clock: Clock = {
  nowMs: () => performance.now(),
  unixMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, LONGEST_TIMEOUT_MS));
    return () => clearTimeout(timer);
  },
};

/** Outside of a page there is nothing to listen to. */
const pageSignals: PageSignals = (listener) => {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const stop = new AbortController();
  const { signal } = stop;
  const shown = (): void => {
    if (document.visibilityState === "visible") listener("visible");
  };
  document.addEventListener("visibilitychange", shown, { signal });
  document.addEventListener("resume", () => listener("resumed"), { signal }); // Page Lifecycle: it was frozen
  window.addEventListener("pageshow", () => listener("resumed"), { signal });
  window.addEventListener("online", () => listener("online"), { signal });
  window.addEventListener("pagehide", () => listener("left"), { signal });
  return () => stop.abort();
};

const openSocket: SocketFactory = (url, protocols, listener) => {
  const socket = new WebSocket(url, [...protocols]);
  socket.onmessage = ({ data }) => listener.message(data);
  socket.onclose = ({ code, reason }) => listener.closed(code, reason);
  socket.onerror = () => {}; // the close that follows says as much; without a listener some would call it uncaught
  return socket;
};

export function withBrowserParts(given: Partial<Platform> = {}): Platform {
  return {
    socket: typeof WebSocket === "undefined" ? null : openSocket,
    fetch: typeof globalThis.fetch === "undefined" ? null : globalThis.fetch.bind(globalThis),
    clock,
    random: Math.random,
    pageSignals,
    ...given,
  };
}
