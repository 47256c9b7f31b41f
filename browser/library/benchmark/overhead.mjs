/**
 * What the library costs per frame of exchange data, beside plain `JSON.parse` of the same text in the same run.
 *
 * node benchmark/overhead.mjs [frames] [--json]. Frames of five quotes, one in ten with an order update and a portfolio;
 * seven rounds of each kind, alternating; the medians are compared.
 */

import { performance } from "node:perf_hooks";
import { connect } from "../dist/index.js";

const ROUNDS = 7;
const SYMBOLS = ["AAPL", "MSFT", "GOOG", "AMZN", "TSLA"];
const frames = Number(process.argv.find((one) => /^\d+$/.test(one)) ?? 20_000);

function frame(sequence) {
  const marketData = SYMBOLS.map((symbol, at) => ({
    symbol,
    bid: 100 + at + (sequence % 100) / 100,
    ask: 100.03 + at + (sequence % 100) / 100,
    bidSize: 100 * (1 + (sequence % 7)),
    askSize: 100 * (1 + (sequence % 5)),
    lastPrice: 100.01 + at,
    lastSize: 100,
  }));
  const traded = sequence % 10 === 0;
  const orderId = `o${sequence % 500}`;
  return JSON.stringify({
    type: "exchange_data",
    timestamp: 1_795_168_839_725,
    epoch: 7,
    fromSequence: sequence,
    sequence,
    snapshot: sequence === 1,
    data: {
      timestamp: 1_795_168_839_720,
      marketData,
      orderUpdates: traded
        ? [{ orderId, symbol: "AAPL", status: "FILLED", filledQuantity: 10, averagePrice: 100.01, sequence }]
        : [],
      portfolio: traded
        ? {
            positions: [{ symbol: "AAPL", quantity: 10, averageCost: 100.01, marketValue: 1000.1 }],
            cashBalance: 99_000,
            totalValue: 100_000.1,
          }
        : null,
    },
  });
}

const CONNECTED = JSON.stringify({
  type: "connected",
  clientId: "c",
  deviceId: "d",
  sessionId: "s",
  isNew: false,
  podName: "pod",
  epoch: null,
  sequence: null,
  resumed: false,
  simulatorStatus: "RUNNING",
  heartbeatIntervalMs: 1_000_000,
  expiresAt: "2026-11-20T11:00:00Z",
  limits: {},
  timestamp: 1,
});

/** A socket without a network: the round itself says what comes. */
async function throughLibrary(texts) {
  let message = () => {};
  const opened = Promise.withResolvers?.() ?? withResolvers();
  let told = 0;
  const connection = connect({
    url: "http://127.0.0.1:1",
    deviceId: "d",
    transport: "websocket",
    getToken: () => "token",
    onExchangeData: () => {
      told += 1;
    },
    platform: {
      socket: (_url, _protocols, listener) => {
        message = (text) => listener.message(text);
        queueMicrotask(() => {
          message(CONNECTED);
          opened.resolve();
        });
        return { bufferedAmount: 0, send() {}, close() {} };
      },
    },
  });
  await opened.promise;
  const began = performance.now();
  for (const text of texts) message(text);
  const tookMs = performance.now() - began;
  const { gaps, duplicates } = connection.statistics;
  connection.close();
  if (told !== texts.length || gaps !== 0 || duplicates !== 0)
    throw new Error(`${told} of ${texts.length} were told`);
  return tookMs;
}

function parsed(texts) {
  const began = performance.now();
  let sum = 0;
  for (const text of texts) sum += JSON.parse(text).sequence;
  const tookMs = performance.now() - began;
  if (sum === 0) throw new Error("nothing was parsed");
  return tookMs;
}

function withResolvers() {
  let resolve;
  const promise = new Promise((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

function median(values) {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)];
}

const texts = Array.from({ length: frames }, (_, at) => frame(1 + at));
const library = [];
const plain = [];
for (let round = 0; round < ROUNDS; round += 1) {
  plain.push(parsed(texts));
  library.push(await throughLibrary(texts));
}
const result = {
  frames,
  bytes_per_frame: Math.round(texts.reduce((sum, text) => sum + text.length, 0) / frames),
  json_parse_us: (1000 * median(plain)) / frames,
  library_us: (1000 * median(library)) / frames,
  ratio: median(library) / median(plain),
};
if (process.argv.includes("--json")) console.log(JSON.stringify(result));
else {
  console.log(`${result.frames} frames of ${result.bytes_per_frame} bytes, Node.js ${process.version}`);
  console.log(`JSON.parse ${result.json_parse_us.toFixed(2)} µs, library ${result.library_us.toFixed(2)} µs a frame`);
  console.log(`ratio ${result.ratio.toFixed(2)}`);
}
