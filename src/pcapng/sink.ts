import type { PacketRecord } from '../capture/records.ts';
import type { Limits } from '../config/limits.ts';
import type { Connection } from '../flow/connection.ts';
import type { Clock } from '../telemetry/clock.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import { isStandalone, NO_HEADERS, standalonePackets } from './packet.ts';
import { decryptionSecrets, enhancedPacket, fileHeader, interfaceStatistics } from './writer.ts';

export interface PcapngSinkOptions {
  /** Takes bytes for the file, in order; they are the receiver's. Must neither block nor throw. */
  write: (bytes: Buffer) => void;
  limits: Limits;
  clock: Clock;
  /** Whether the writer cannot keep up: packets are then dropped and counted. */
  isBehind?: () => boolean;
}

/** One packet that waits. */
interface Entry {
  readonly timeUs: number;
  readonly block: Buffer;
}

/** The packets of a connection that lacks its secret. */
interface Waiting {
  readonly sinceUs: number;
  readonly entries: Entry[];
}

const OUTPUT_BYTES = 256 * 1024;

/**
 * What was captured as a PcapNG file that tshark decrypts without a key log.
 *
 * Packets are written in the order of their time: each waits for limits.pcapngReorderUs, since processors race by microseconds.
 * A secret is written as soon as it is known, so that it stands ahead of all that still waits. The packets of a connection that
 * lacks its secret (connection.awaitingSecret) wait for it, bounded in time and bytes; they then come later in the file than their
 * time says, but in the order of their connection (late copies that come after its end excepted). Nobody else waits for them.
 *
 * Sans-IO: bytes go out through `write`, and whatever goes wrong there turns the sink off.
 */
export class PcapngSink {
  /** Packets that were offered and are not in the file, by reason. */
  readonly dropped: ReasonCounts = {};
  /** Packets written. */
  written = 0;
  private readonly options: PcapngSinkOptions;
  /** In order of time from `head` on. */
  private queue: Entry[] = [];
  private head = 0;
  private queuedBytes = 0;
  private readonly waiting = new Map<Connection, Waiting>();
  private waitingBytes = 0;

  /** Bytes of packets that are not written yet. */
  get heldBytes(): number {
    return this.queuedBytes + this.waitingBytes;
  }

  private output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  private outputLength = 0;
  private newestUs = 0;
  private off = false;

  constructor(options: PcapngSinkOptions) {
    this.options = options;
    this.append(fileHeader('wirespan', 'wirespan'));
  }

  /**
   * Takes a packet after the stages have seen it, so that the secrets it brought to light stand ahead of it.
   *
   * @param record borrowed
   */
  packet(record: PacketRecord, connection: Connection | undefined): void {
    if (this.off) {
      count(this.dropped, 'off');
      return;
    }
    if (this.options.isBehind?.() === true) {
      count(this.dropped, 'writer_behind');
      return;
    }
    const { timeUs } = record;
    if (timeUs > this.newestUs) this.newestUs = timeUs;
    const unixUs = this.options.clock.unixUs(timeUs);
    const waiting = connection === undefined ? undefined : this.waitingOf(connection, timeUs);
    const { bytes, direction, start, end } = record;
    if (isStandalone(record)) {
      const originalLength = Math.max(record.packetLength, end - start);
      this.take(timeUs, enhancedPacket(unixUs, direction, NO_HEADERS, bytes, start, end, originalLength), waiting);
    } else {
      standalonePackets(record, (headers, partStart, partEnd, originalLength) => {
        const block = enhancedPacket(unixUs, direction, headers, bytes, partStart, partEnd, originalLength);
        this.take(timeUs, block, waiting);
      });
    }
    while (this.waitingBytes > this.options.limits.pcapngPendingBytes) this.releaseOldest();
    this.writeUntil(this.newestUs - this.options.limits.pcapngReorderUs);
    // A file may hold any number of packets of one time.
    while (this.queuedBytes > this.options.limits.pcapngPendingBytes) this.writeFirst();
    this.compact();
  }

  /** A key log line: it stands ahead of every packet that is not written yet. */
  secrets(_connection: Connection, line: string): void {
    if (this.off) return;
    const block = decryptionSecrets(line.endsWith('\n') ? line : `${line}\n`);
    this.append(block);
    block.fill(0);
  }

  /** Time passes: writes what has waited long enough, and gives all to the writer. */
  tick(timeUs: number): void {
    if (this.off) return;
    if (timeUs > this.newestUs) this.newestUs = timeUs;
    for (const [connection, waiting] of this.waiting) {
      if (connection.awaitingSecret && timeUs - waiting.sinceUs < this.options.limits.pcapngPendingUs) continue;
      this.release(connection, waiting);
    }
    this.writeUntil(this.newestUs - this.options.limits.pcapngReorderUs);
    this.flush();
  }

  /**
   * The capture ended: writes all that waits, and how much is missing.
   *
   * @param lost packets that the capture lost
   */
  finish(lost: number): void {
    if (this.off) return;
    for (const [connection, waiting] of this.waiting) this.release(connection, waiting);
    this.writeUntil(Infinity);
    const dropped = Object.values(this.dropped).reduce((sum, n) => sum + n, 0);
    const reasons = Object.entries(this.dropped).map(([reason, n]) => `${n} ${reason}`);
    const comment = dropped === 0 ? '' : `not written: ${reasons.join(', ')}`;
    const unixUs = this.options.clock.unixUs(this.newestUs);
    this.append(interfaceStatistics(unixUs, this.written + dropped + lost, dropped + lost, comment));
    this.flush();
    this.off = true;
  }

  /** Nothing more can be written, as when the disk is full: what waits is dropped and counted, and so is all that comes. */
  turnOff(): void {
    if (this.off) return;
    this.off = true;
    let unwritten = this.queue.length - this.head;
    for (const waiting of this.waiting.values()) unwritten += waiting.entries.length;
    if (unwritten > 0) count(this.dropped, 'off', unwritten);
    this.queue = [];
    this.head = 0;
    this.queuedBytes = 0;
    this.waiting.clear();
    this.waitingBytes = 0;
    this.output.fill(0);
    this.outputLength = 0;
  }

  private take(timeUs: number, block: Buffer, waiting: Waiting | undefined): void {
    if (waiting === undefined) {
      this.enqueue({ timeUs, block });
    } else {
      waiting.entries.push({ timeUs, block });
      this.waitingBytes += block.length;
    }
  }

  /** Where the packets of a connection wait, if they have to. */
  private waitingOf(connection: Connection, timeUs: number): Waiting | undefined {
    let waiting = this.waiting.get(connection);
    if (connection.awaitingSecret) {
      if (waiting === undefined) {
        waiting = { sinceUs: timeUs, entries: [] };
        this.waiting.set(connection, waiting);
      }
      return waiting;
    }
    if (waiting !== undefined) this.release(connection, waiting);
    return undefined;
  }

  private release(connection: Connection, waiting: Waiting): void {
    this.waiting.delete(connection);
    for (const entry of waiting.entries) {
      this.waitingBytes -= entry.block.length;
      this.enqueue(entry);
    }
  }

  private releaseOldest(): void {
    const [oldest] = this.waiting;
    if (oldest !== undefined) this.release(oldest[0], oldest[1]);
  }

  /** Into the place of its time; what comes is nearly always the latest. */
  private enqueue(entry: Entry): void {
    const { queue } = this;
    this.queuedBytes += entry.block.length;
    let at = queue.length;
    while (at > this.head && queue[at - 1]!.timeUs > entry.timeUs) at--;
    if (at === queue.length) queue.push(entry);
    else queue.splice(at, 0, entry);
  }

  private writeUntil(timeUs: number): void {
    const { queue } = this;
    while (this.head < queue.length && queue[this.head]!.timeUs <= timeUs) this.writeFirst();
    this.compact();
  }

  private writeFirst(): void {
    const { block } = this.queue[this.head++]!;
    this.queuedBytes -= block.length;
    this.append(block);
    this.written++;
  }

  /** Lets go of what was written. */
  private compact(): void {
    const { queue } = this;
    if (this.head === 0 || (this.head < 1024 && this.head < queue.length)) return;
    queue.splice(0, this.head);
    this.head = 0;
  }

  private append(block: Buffer): void {
    if (block.length > OUTPUT_BYTES - this.outputLength) this.flush();
    if (block.length > OUTPUT_BYTES) {
      this.options.write(Buffer.from(block));
      return;
    }
    this.outputLength += block.copy(this.output, this.outputLength);
  }

  private flush(): void {
    if (this.outputLength === 0) return;
    const length = this.outputLength;
    this.outputLength = 0;
    // A large buffer is given away, a small part of it is copied.
    if (length < OUTPUT_BYTES / 2) {
      this.options.write(Buffer.from(this.output.subarray(0, length)));
      this.output.fill(0, 0, length);
    } else {
      const full = this.output;
      this.output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
      this.options.write(full.subarray(0, length));
    }
  }
}
