import { EventStreamReader } from "session-service-client";
import type { LocalConfig } from "./pageConfig.ts";

/** One pod of the local run. Counts are null while the run cannot tell. */
export interface LocalPod {
  readonly name: string;
  readonly url: string;
  readonly pid: number | null;
  readonly status: string;
  readonly sessions: number | null;
  readonly sockets: number | null;
  readonly simulators: number | null;
}

export interface LocalToken {
  readonly token: string;
  readonly userId: string;
  readonly expiresAt: string;
}

/** The local run said no, or does not answer (`status` null). */
export class LocalControlError extends Error {
  readonly status: number | null;

  constructor(message: string, status: number | null, options?: ErrorOptions) {
    super(message, options);
    this.name = "LocalControlError";
    this.status = status;
  }
}

/** The control of a local run (docs/local-run.md): tokens without typing, and the pods. */
export class LocalControl {
  readonly #config: LocalConfig;

  constructor(config: LocalConfig) {
    this.#config = config;
  }

  /** A token of this user. Rejects with LocalControlError, 409 where the run does not make its own tokens. */
  async token(userId: string): Promise<LocalToken> {
    const answer = await this.#call("/token", { method: "POST", body: JSON.stringify({ userId }) });
    return (await answer.json()) as LocalToken;
  }

  /** SIGTERM; the pod comes back by itself. */
  async stopPod(name: string): Promise<void> {
    await this.#call(`/pods/${encodeURIComponent(name)}/stop`, { method: "POST" });
  }

  /** SIGKILL; the pod comes back by itself. */
  async killPod(name: string): Promise<void> {
    await this.#call(`/pods/${encodeURIComponent(name)}/kill`, { method: "POST" });
  }

  /** Tells all pods, at once and with every change, until the stream ends (resolves) or breaks off (rejects). */
  async watchPods(onPods: (pods: readonly LocalPod[]) => void): Promise<void> {
    const answer = await this.#call("/pods/events", { headers: { Accept: "text/event-stream" } });
    if (!answer.body) return;
    const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventStreamReader();
    for (;;) {
      const { done, value } = await pieces.read();
      if (done) return;
      for (const event of events.feed(value)) {
        if (event.type === "pods") onPods((JSON.parse(event.data) as { pods: LocalPod[] }).pods);
      }
    }
  }

  async #call(path: string, request: RequestInit): Promise<Response> {
    const headers = new Headers(request.headers);
    headers.set("X-Local-Control", this.#config.controlKey);
    if (request.body) headers.set("Content-Type", "application/json");
    let answer: Response;
    try {
      answer = await fetch(`${this.#config.controlUrl}${path}`, { ...request, headers });
    } catch (error) {
      throw new LocalControlError("The local run does not answer. Is it still running?", null, { cause: error });
    }
    if (answer.ok) return answer;
    const body = (await answer.json().catch(() => null)) as { error?: string } | null;
    throw new LocalControlError(body?.error ?? `The local run answered ${answer.status}`, answer.status);
  }
}
