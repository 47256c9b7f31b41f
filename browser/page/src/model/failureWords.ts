import { CommandTimeoutError, ConnectionEndedError, ServiceError } from "session-service-client";
import { errorWords } from "./errorWords.ts";

/** Why a command or a call had no success, and what to do; whatever the client rejects with. */
export function failureWords(error: unknown): string {
  if (error instanceof ServiceError) return errorWords(error.code, error.message);
  if (error instanceof CommandTimeoutError) {
    return "No answer came in time, and it may have been carried out. Look before you try again.";
  }
  if (error instanceof ConnectionEndedError) {
    return "The connection is over, and it may have been carried out. Connect again, then look.";
  }
  return "The service did not answer. Try again in a few seconds.";
}
