/** Commands of a client that has an event stream: they go by REST, and are answered as a socket would. */

import type { AnswerFrame } from "./commands.ts";
import { ServiceError } from "./errors.ts";
import type { SimulatorState } from "./events.ts";
import type { CommandMessage } from "./frames.ts";
import type { RestClient } from "./rest.ts";

/** What only the stream itself can do: it is opened anew, under other symbols or without a position. */
export function needsNewStream(message: CommandMessage): boolean {
  return message.type === "subscribe" || message.type === "request_full_refresh";
}

/** Rejects as the REST calls do. */
export async function carryOut(rest: RestClient, sessionId: string, message: CommandMessage): Promise<AnswerFrame> {
  const { requestId } = message;
  const result = (fields: object): AnswerFrame => ({
    type: "result",
    requestId,
    success: true,
    timestamp: 0,
    ...fields,
  });
  switch (message.type) {
    case "start_simulator": {
      const { initialSymbols, initialCash } = message;
      const started = await rest.startSimulator(sessionId, {
        ...(initialSymbols === undefined ? {} : { initialSymbols }),
        ...(initialCash === undefined ? {} : { initialCash }),
      });
      return result(started);
    }
    case "stop_simulator": {
      const simulator = await rest.findSimulator(sessionId);
      return result({ status: simulator === null ? "NONE" : await rest.stopSimulator(simulator.simulatorId) });
    }
    case "submit_order":
      return result(await rest.submitOrder(await simulatorId(rest, sessionId), message, requestId));
    case "cancel_order":
      return result(await rest.cancelOrder(await simulatorId(rest, sessionId), message.orderId));
    case "request_session": {
      const [session, simulator] = await Promise.all([rest.getSession(sessionId), rest.findSimulator(sessionId)]);
      return {
        type: "session_info",
        timestamp: 0,
        requestId,
        sessionId,
        userId: session.userId,
        status: session.status,
        deviceId: session.deviceId,
        createdAt: session.createdAt,
        expiresAt: session.expiresAt,
        simulatorId: simulator?.simulatorId ?? null,
        simulatorStatus: (simulator?.status ?? "NONE") satisfies SimulatorState,
      };
    }
    default:
      throw new ServiceError("UNKNOWN", `${message.type} does not go by REST`);
  }
}

async function simulatorId(rest: RestClient, sessionId: string): Promise<string> {
  const simulator = await rest.findSimulator(sessionId);
  if (simulator === null) throw new ServiceError("SIMULATOR_NOT_RUNNING", "The session has no simulator");
  return simulator.simulatorId;
}
