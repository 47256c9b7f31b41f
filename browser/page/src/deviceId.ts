import type { KeptValues } from "./keptValues.ts";

const KEY = "session-service.device-id";

/** This browser's own name as a device, made once and kept. */
export function deviceIdIn(storage: KeptValues): string {
  const kept = storage.getItem(KEY);
  if (kept) return kept;
  // Not randomUUID, which pages without TLS do not have.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  const made = `browser-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  storage.setItem(KEY, made);
  return made;
}
