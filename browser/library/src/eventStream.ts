/** Reading server-sent events (WHATWG HTML §9.2.6). Pure. */

export interface StreamEvent {
  readonly type: string;
  readonly data: string;
  /** The last `id` so far, this event's included. */
  readonly lastEventId: string;
}

/** A line that does not end within it is no event of this service. */
const MAX_BUFFERED = 4 * 1024 * 1024;

/** Text in pieces as they come; events out. Comments give nothing, but they are heard by whoever feeds. */
export class EventStreamReader {
  #rest = "";
  #type = "";
  #data: string[] = [];
  #size = 0;
  #lastEventId = "";
  #started = false;

  /** Throws RangeError for a line or an event that is too long. */
  feed(piece: string): StreamEvent[] {
    let text = this.#rest + piece;
    if (!this.#started && text.length > 0) {
      this.#started = true;
      if (text.startsWith("\ufeff")) text = text.slice(1);
    }
    const events: StreamEvent[] = [];
    let from = 0;
    for (;;) {
      const end = lineEnd(text, from);
      if (end === null) break;
      this.#line(text.slice(from, end.at), events);
      from = end.next;
    }
    this.#rest = text.slice(from);
    if (this.#rest.length + this.#size > MAX_BUFFERED) throw new RangeError("an event that is too long");
    return events;
  }

  #line(line: string, events: StreamEvent[]): void {
    if (line === "") {
      if (this.#data.length > 0) {
        events.push({
          type: this.#type || "message",
          data: this.#data.join("\n"),
          lastEventId: this.#lastEventId,
        });
      }
      this.#type = "";
      this.#data = [];
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const raw = colon < 0 ? "" : line.slice(colon + 1);
    const value = raw.startsWith(" ") ? raw.slice(1) : raw;
    if (field === "event") this.#type = value;
    else if (field === "id" && !value.includes("\0")) this.#lastEventId = value;
    else if (field === "data") {
      this.#data.push(value);
      this.#size += value.length;
    }
  }
}

/** CRLF, LF or CR. A CR at the very end may be half of a CRLF: its line ends with the next piece. */
function lineEnd(text: string, from: number): { at: number; next: number } | null {
  for (let at = from; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit === 10) return { at, next: at + 1 };
    if (unit === 13) {
      if (at + 1 === text.length) return null;
      return { at, next: text.charCodeAt(at + 1) === 10 ? at + 2 : at + 1 };
    }
  }
  return null;
}
