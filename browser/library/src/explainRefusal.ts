/** Why an upgrade failed: a browser shows nothing of the answer, and REST says the same in words. */

import { afterRefusal, type Final, RETRY, type Retry } from "./closeCodes.ts";
import { ServiceError } from "./errors.ts";
import type { RestClient } from "./rest.ts";

/** `reachable`: over HTTP all is well, so that it may be the WebSockets that do not get through. */
export interface Explanation {
  readonly reachable: boolean;
  readonly decision: Retry | Final;
  readonly reason: string;
}

/** Never rejects. `rest`: at the address that refused. */
export async function explainRefusal(
  rest: RestClient,
  sessionId: string | null,
  deviceId: string,
): Promise<Explanation> {
  try {
    if (sessionId === null) await rest.openSession(deviceId);
    else await rest.getSession(sessionId);
    return { reachable: true, decision: RETRY, reason: "" };
  } catch (error) {
    if (!(error instanceof ServiceError)) return { reachable: false, decision: RETRY, reason: "" };
    const { status, code, message, retryAfterMs } = error;
    return { reachable: false, decision: afterRefusal(status, code, message, retryAfterMs), reason: message };
  }
}
