/** The id of one client, and its attempts: what the service tells its connections apart by. */

const MAX_CLIENT_ID_LENGTH = 64;
const MAX_ATTEMPT = 2 ** 31 - 1;
const KEY = "session-service-client";

export type KeptIn = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/** `attempt` is that of the last try, -1 before the first: each one above 0 counts as a reconnect. */
export class ClientIdentity {
  clientId: string;
  readonly deviceId: string;
  attempt: number;

  constructor(deviceId: string, clientId: string, attempt = -1) {
    this.deviceId = deviceId;
    this.clientId = clientId;
    this.attempt = attempt;
  }

  nextAttempt(): number {
    this.attempt += 1;
    return this.attempt;
  }
}

/** Unique enough; `crypto.randomUUID` alone would need a secure context. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Take the identity that an earlier load of this tab put back, or null. It is taken out of the storage: a duplicate of
 * the tab, which gets a copy of the storage, finds none and is a client of its own.
 */
export function takeIdentity(storage: KeptIn, deviceId: string): ClientIdentity | null {
  try {
    const kept: unknown = JSON.parse(storage.getItem(KEY) ?? "null");
    storage.removeItem(KEY);
    if (typeof kept !== "object" || kept === null) return null;
    const { clientId, attempt, device } = kept as Record<string, unknown>;
    if (typeof clientId !== "string" || clientId === "" || clientId.length > MAX_CLIENT_ID_LENGTH) return null;
    if (device !== deviceId || typeof attempt !== "number" || !Number.isSafeInteger(attempt)) return null;
    return attempt < 0 || attempt > MAX_ATTEMPT / 2 ? null : new ClientIdentity(deviceId, clientId, attempt);
  } catch {
    return null; // a storage that is switched off, or what somebody else wrote
  }
}

/** For the next load of this tab. */
export function putBackIdentity(storage: KeptIn, identity: ClientIdentity): void {
  const { clientId, attempt, deviceId } = identity;
  try {
    storage.setItem(KEY, JSON.stringify({ clientId, attempt, device: deviceId }));
  } catch {
    return; // full, or switched off: the next load is a new client
  }
}
