/** A channel over the browser's WebSocket. */

import { subprotocols } from "./accessToken.ts";
import { socketAddress } from "./addresses.ts";
import { type Channel, type ChannelListener, LOST, type OpenRequest } from "./channel.ts";
import { ABNORMAL_CLOSURE, CLOSED_OK } from "./closeCodes.ts";
import type { SocketFactory } from "./platform.ts";

export function openWebSocket(create: SocketFactory, request: OpenRequest, listener: ChannelListener): Channel {
  const query = new URLSearchParams(request.query);
  if (request.sessionId !== null) query.set("sessionId", request.sessionId);
  if (request.position !== null) {
    query.set("epoch", String(request.position.epoch));
    query.set("sequence", String(request.position.sequence));
  }
  let silent = false;
  const socket = create(socketAddress(request.url, query), subprotocols(request.token), {
    message(data) {
      if (silent) return;
      if (typeof data === "string") listener.frame(data);
      else listener.heard();
    },
    closed(code, reason) {
      if (!silent) listener.ended({ ...LOST, closeCode: code === ABNORMAL_CLOSURE ? null : code, message: reason });
      silent = true;
    },
  });
  return {
    kind: "websocket",
    get unsentBytes() {
      return socket.bufferedAmount;
    },
    send(text) {
      socket.send(text);
    },
    leave() {
      socket.close(CLOSED_OK);
    },
    abandon() {
      silent = true;
      socket.close();
    },
  };
}
