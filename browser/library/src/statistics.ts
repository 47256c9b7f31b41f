/** What a connection has been through, counted since it was made. Times in milliseconds. */
export interface Statistics {
  /** `exchange_data` frames, over all sockets. */
  readonly frames: number;
  /** Numbers that were applied one after the other: what snapshots stand for is not in it. */
  readonly updates: number;
  /** Applied, those in snapshots aside. */
  readonly orderUpdates: number;
  /** Frames that a socket repeated since its predecessor had been faster; not applied twice. */
  readonly overlapped: number;
  /** Violations of the sequence rule but duplicates. */
  readonly gaps: number;
  readonly duplicates: number;
  readonly snapshots: number;
  /** Snapshots of the epoch that was followed, beyond its position: updates that were not seen. */
  readonly snapshotsSkipping: number;
  /** Connections that got `connected`. */
  readonly connections: number;
  /** Those after the first, moves included. */
  readonly reconnects: number;
  /** Make-before-break: the old connection was kept until the new one was there. */
  readonly moves: number;
  /** Reconnects that stated a position and continued there. */
  readonly resumed: number;
  readonly notResumed: number;
  /** Tries that were refused or failed. */
  readonly refused: number;
  /** Between the last frame before a reconnect and the first one after it; without data, without a connection. */
  readonly longestPauseMs: number;
  readonly heartbeats: number;
  readonly heartbeatsMissed: number;
  /** Round trip of the last heartbeat; null before the first. */
  readonly roundTripMs: number | null;
  /** Text of frames as it came, in UTF-16 units: for the service's frames as good as bytes. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** By code, of sockets that the client did not leave itself; 1006: without a close frame. */
  readonly closeCodes: Readonly<Record<number, number>>;
}

export type Counters = { -readonly [Name in keyof Statistics]: Statistics[Name] } & {
  closeCodes: Record<number, number>;
};

export function newCounters(): Counters {
  return {
    frames: 0,
    updates: 0,
    orderUpdates: 0,
    overlapped: 0,
    gaps: 0,
    duplicates: 0,
    snapshots: 0,
    snapshotsSkipping: 0,
    connections: 0,
    reconnects: 0,
    moves: 0,
    resumed: 0,
    notResumed: 0,
    refused: 0,
    longestPauseMs: 0,
    heartbeats: 0,
    heartbeatsMissed: 0,
    roundTripMs: null,
    receivedBytes: 0,
    sentBytes: 0,
    closeCodes: {},
  };
}
