import type { Clock } from '../telemetry/clock.ts';
import type { ReasonCounts } from '../telemetry/counters.ts';
import type { SocketRecord } from './records.ts';

/** Gets chunk[0..length), whole records one after the other (records.ts; walkChunk reads them). Borrowed: valid during the call only. */
export type OnChunk = (chunk: Buffer, length: number) => void;

/** What a source can do besides delivering packets. What it cannot do its method leaves undone. */
export interface CaptureCapabilities {
  /** Packets carry the cookies of sockets, whose owners it announces; scanSockets() finds those that exist already. */
  readonly sockets: boolean;
  /** It announces programs as they start. */
  readonly processes: boolean;
  /** mute() spares the packets of a socket. */
  readonly mute: boolean;
  /** ignoreListener() and ignoreCgroup() leave out connections from their first packet on. */
  readonly ignore: boolean;
}

/** Of a ring between kernel and agent, in bytes. */
export interface RingUsage {
  /** Since the beginning; of secrets with the zeros that wrote over them. */
  readonly read: number;
  /** To be read. */
  readonly waiting: number;
  /** It holds. */
  readonly size: number;
}

export interface CaptureRings {
  readonly packets: RingUsage;
  readonly control: RingUsage;
  readonly secrets: RingUsage;
}

/** The time of a source's records. */
export interface SourceClock extends Clock {
  /** @returns the time of records, now */
  nowUs(): number;
}

/**
 * Where packets come from: programs in the kernel, a file, a tap. It delivers records in chunks, and everything behind it is the same for all
 * sources. A new one is a class that implements this, and a case in src/sources.ts.
 */
export interface CaptureSource {
  readonly capabilities: CaptureCapabilities;
  readonly clock: SourceClock;
  /** The ring that the probes of TLS libraries write to, read along with the packets. Undefined: no library is probed. */
  readonly secretRingFd: number | undefined;
  /** Everything was delivered: after stop(), or because there is no more. Rejects with an Error for people when it cannot be read on. */
  readonly finished: Promise<unknown>;
  /**
   * Begins to deliver. Once.
   * @throws Error for people
   */
  start(onChunk: OnChunk): void;
  /** Owners of the sockets that are older than start(). May block for some milliseconds. */
  scanSockets(): SocketRecord[];
  /** Nobody wants the data of this socket: of its packets SYN, FIN and RST are enough from now on. */
  mute(cookie: number): void;
  /**
   * The agent itself listens there: nothing of connections to it is delivered.
   * @param address an IPv4 or IPv6 address of this machine
   */
  ignoreListener(address: string, port: number): void;
  /**
   * Nobody wants anything of sockets that are made in this cgroup from now on, or somebody does again.
   * @param id the inode number of its directory; not that of the root, to which the kernel's own sockets belong
   */
  ignoreCgroup(id: number, ignored: boolean): void;
  /** What could not be captured, by reason. Its last values stay after stop(). */
  lost(): ReasonCounts;
  /** How full the rings are. @returns undefined where there are none, before start() and after the end */
  rings(): CaptureRings | undefined;
  /** Delivers what is there, takes everything back that it made, and resolves when that is done. */
  stop(): Promise<void>;
}
