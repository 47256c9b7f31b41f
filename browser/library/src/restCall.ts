/** One REST call, once (docs/rest.md). */

import { ServiceError, TransportError } from "./errors.ts";
import type { Clock } from "./platform.ts";

/** Who asks for more, such as a proxy in front of the service, is asked again all the same. */
const MAX_RETRY_AFTER_MS = 300_000;

export type Answer = Readonly<Record<string, unknown>>;

export interface RestCall {
  readonly method: "GET" | "POST" | "DELETE";
  /** With its query. */
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
}

/** Rejects with ServiceError for an answer that is no success, with TransportError where none came in time. */
export async function callOnce(
  fetch: typeof globalThis.fetch,
  clock: Clock,
  base: string,
  token: string,
  call: RestCall,
  limitMs: number,
): Promise<Answer> {
  const stop = new AbortController();
  const takeBack = clock.after(limitMs, () => stop.abort());
  const headers: Record<string, string> = { Authorization: `Bearer ${token}` };
  if (call.body !== undefined) headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(base + call.path, {
      method: call.method,
      headers,
      body: call.body === undefined ? null : JSON.stringify(call.body),
      signal: stop.signal,
      cache: "no-store",
      redirect: "error",
    });
    if (!response.ok) throw await readRefusal(response);
    const answer: unknown = await response.json();
    if (typeof answer !== "object" || answer === null)
      throw new ServiceError("UNKNOWN", "an answer of another shape");
    return answer as Answer;
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    // What `fetch` and the reading of a body reject with says nothing that a caller could act on.
    throw new TransportError(stop.signal.aborted ? `no answer within ${limitMs} ms` : "no answer of the service");
  } finally {
    takeBack();
  }
}

/** An answer that is no success, as an error. Rejects where its body cannot be received. */
export async function readRefusal(response: Response): Promise<ServiceError> {
  const text = await response.text();
  const details = { status: response.status, retryAfterMs: retryAfterMs(response.headers.get("Retry-After")) };
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = null;
  }
  if (typeof body === "object" && body !== null && "code" in body && typeof body.code === "string") {
    return new ServiceError(body.code, "error" in body ? String(body.error) : "", details);
  }
  return new ServiceError("UNKNOWN", `HTTP ${response.status} without an answer of the service`, details);
}

/** RFC 9110 §10.2.3; a date is passed over, since the service writes none. */
function retryAfterMs(value: string | null): number | null {
  return value !== null && /^\d+$/.test(value) ? Math.min(Number(value) * 1000, MAX_RETRY_AFTER_MS) : null;
}
