/** The service over HTTP, moved by hand: REST answers by route, event streams that a test writes to. */

import { START_UNIX_MS } from "./fakeClock.ts";
import type { Said } from "./fakeService.ts";

export interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly body: unknown;
}

export class FakeStream {
  readonly asked: Asked;
  readonly #controller: ReadableStreamDefaultController<Uint8Array>;
  readonly #unixMs: () => number;
  left = false;

  constructor(asked: Asked, controller: ReadableStreamDefaultController<Uint8Array>, unixMs: () => number) {
    this.asked = asked;
    this.#unixMs = unixMs;
    this.#controller = controller;
  }

  get query(): Record<string, string> {
    return Object.fromEntries(this.asked.url.searchParams);
  }

  say(frame: Said): void {
    this.text(`event: ${frame.type}\ndata: ${JSON.stringify({ ...frame, timestamp: this.#unixMs() })}\n\n`);
  }

  text(text: string): void {
    if (!this.left) this.#controller.enqueue(new TextEncoder().encode(text));
  }

  connected(fields: Partial<Extract<Said, { type: "connected" }>> = {}): void {
    this.say({
      type: "connected",
      clientId: this.query.clientId ?? "made",
      deviceId: "laptop",
      sessionId: "session-1",
      isNew: false,
      podName: `pod-${this.asked.url.port}`,
      epoch: null,
      sequence: null,
      resumed: false,
      simulatorStatus: "RUNNING",
      heartbeatIntervalMs: 10_000,
      expiresAt: "2026-11-20T11:00:00Z",
      limits: {},
      ...fields,
    });
  }

  end(): void {
    this.#controller.close();
  }

  leave(): void {
    if (this.left) return;
    this.left = true;
    this.#controller.error(new DOMException("aborted", "AbortError"));
  }
}

type Answer = { readonly status?: number; readonly headers?: Record<string, string>; readonly body: object } | null;

export class FakeHttp {
  readonly asked: Asked[] = [];
  readonly streams: FakeStream[] = [];
  /** The service's clock. */
  unixMs: () => number = () => START_UNIX_MS;
  /** By method and path, null: no network. An event stream is given by `answerStream`. */
  answer: (asked: Asked) => Answer = () => null;
  answerStream: (asked: Asked) => Answer | "stream" = () => "stream";

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const asked: Asked = {
      method: init?.method ?? "GET",
      url: new URL(String(input)),
      headers: init?.headers as Record<string, string>,
      body: typeof init?.body === "string" ? JSON.parse(init.body) : null,
    };
    this.asked.push(asked);
    if (asked.url.pathname.endsWith("/events")) {
      const answer = this.answerStream(asked);
      if (answer === "stream") return this.#stream(asked, init?.signal ?? null);
      return response(answer);
    }
    return response(this.answer(asked));
  };

  get last(): FakeStream {
    const stream = this.streams.at(-1);
    if (stream === undefined) throw new Error("no event stream was asked for");
    return stream;
  }

  #stream(asked: Asked, signal: AbortSignal | null): Response {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        const stream = new FakeStream(asked, controller, () => this.unixMs());
        this.streams.push(stream);
        signal?.addEventListener("abort", () => stream.leave());
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }
}

function response(answer: Answer): Response {
  if (answer === null) throw new TypeError("fetch failed");
  const { status = 200, headers = {}, body } = answer;
  return new Response(JSON.stringify(body), { status, headers });
}
