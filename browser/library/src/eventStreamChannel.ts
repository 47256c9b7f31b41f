/** A channel over server-sent events (docs/protocol.md#server-sent-events), by `fetch`: it can send a header. */

import { type Channel, type ChannelListener, LOST, type OpenRequest } from "./channel.ts";
import { ServiceError } from "./errors.ts";
import { EventStreamReader } from "./eventStream.ts";
import { readRefusal } from "./restCall.ts";

export function openEventStream(
  fetch: typeof globalThis.fetch,
  request: OpenRequest,
  listener: ChannelListener,
): Channel {
  const stop = new AbortController();
  let over = false;
  const end = (how: Partial<typeof LOST>): void => {
    if (over) return;
    over = true;
    listener.ended({ ...LOST, ...how });
  };
  const read = async (): Promise<void> => {
    const query = new URLSearchParams(request.query);
    const headers: Record<string, string> = { Accept: "text/event-stream", Authorization: `Bearer ${request.token}` };
    if (request.position !== null) {
      headers["Last-Event-ID"] = `${request.position.epoch}:${request.position.sequence}`;
    }
    const url = `${request.url}/api/sessions/${encodeURIComponent(request.sessionId ?? "")}/events?${query}`;
    const response = await fetch(url, { headers, signal: stop.signal, cache: "no-store", redirect: "error" });
    if (response.status !== 200 || response.body === null) {
      const { code, message, status, retryAfterMs } = await readRefusal(response);
      end({ code, message, status, retryAfterMs });
      return;
    }
    const events = new EventStreamReader();
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || over) break;
      listener.heard();
      for (const event of events.feed(decoder.decode(value, { stream: true }))) {
        if (over) break;
        listener.frame(event.data);
      }
    }
    end({});
  };
  read().catch((error: unknown) => {
    stop.abort();
    end(error instanceof ServiceError ? { message: error.message } : {});
  });
  const drop = (): void => {
    over = true;
    stop.abort();
  };
  return {
    kind: "sse",
    unsentBytes: 0,
    send() {
      throw new TypeError("an event stream sends nothing");
    },
    leave: drop,
    abandon: drop,
  };
}
