/**
 * Acknowledgements that stand in a file before the data that they speak of, as a mirror port or a capture of several queues may write them.
 *
 * Such a packet, and what depends on it, waits until the data come, for a few milliseconds: else the data would count as lost, and as a
 * retransmission when they come. The kernel never delivers packets so, and nothing waits in an agent.
 */
import type { PacketRecord } from '../capture/records.ts';
import { BUFFER_COST } from '../memory/cost.ts';
import { ACK, RST, type Segment, SYN } from '../packet/decode.ts';
import { count } from '../telemetry/counters.ts';
import { opposite } from './connection.ts';
import type { Flow } from './flow.ts';
import type { Half, Reassembly } from './half.ts';

/** The packets of one connection that wait, in the order of the file. */
export interface Deferred {
  readonly records: PacketRecord[];
  bytes: number;
  readonly dueUs: number;
}

/** Who takes the packets. */
export interface DeferralHost {
  /** The packet in hand. */
  readonly segment: Segment;
  /** Makes a packet that was put by the one in hand. @returns its direction, undefined when it is not one of this connection any more */
  aim(flow: Flow, record: PacketRecord): Half | undefined;
  process(flow: Flow, half: Half, record: PacketRecord): void;
}

export class Deferrals {
  private readonly reassembly: Reassembly;
  private readonly host: DeferralHost;
  /** By time. */
  private readonly flows = new Set<Flow>();

  constructor(reassembly: Reassembly, host: DeferralHost) {
    this.reassembly = reassembly;
    this.host = host;
  }

  /**
   * Whether a packet speaks of data that were not seen yet, and may stand ahead of them.
   *
   * Others that come while some wait pass them only when they are what these wait for: the next bytes of their direction, or a copy. So what is
   * given up after all is taken in the order of the file.
   *
   * @param behind others of its connection wait, and came before
   */
  mustWait(flow: Flow, half: Half, segment: Segment, timeUs: number, behind: boolean): boolean {
    const { flags, seq, ack, window, payloadLength } = segment;
    if (flow.muted) return false;
    if (behind && ((flags & RST) !== 0 || (half.started && ((seq - half.next) | 0) > 0))) return true;
    if ((flags & (RST | ACK)) !== ACK) return false;
    const other = flow.halves[opposite(half.direction)];
    if (ack === other.next || !other.started || !half.isPlausible(seq, payloadLength)) return false;
    if (!other.lacks(ack, behind)) return false;
    // What it says of the receiver holds already.
    other.noteAck(ack, window, timeUs, (flags & SYN) === 0);
    return true;
  }

  /** Copies the packet. @returns false when so much waits that it must not */
  add(flow: Flow, record: PacketRecord): boolean {
    const { limits } = this.reassembly;
    const length = record.end - record.start;
    let { deferred } = flow;
    if (deferred === undefined) {
      deferred = { records: [], bytes: 0, dueUs: record.timeUs + limits.reassemblyReorderUs };
      flow.deferred = deferred;
      this.flows.add(flow);
    } else if (
      deferred.records.length >= limits.reassemblyReorderPackets ||
      deferred.bytes + length + BUFFER_COST > limits.reassemblyReorderBytes
    ) {
      return false;
    }
    const bytes = Buffer.allocUnsafeSlow(length);
    record.bytes.copy(bytes, 0, record.start, record.end);
    deferred.records.push({ ...record, bytes, start: 0, end: length });
    this.charge(flow, deferred, length + BUFFER_COST);
    return true;
  }

  /** Takes of the packets that wait those that need not any more. */
  resume(flow: Flow, deferred: Deferred): void {
    const { host, reassembly } = this;
    for (let i = 0; i < deferred.records.length && !flow.closed; ) {
      const half = host.aim(flow, deferred.records[i]!);
      const { timeUs } = deferred.records[i]!;
      if (half !== undefined && this.mustWait(flow, half, host.segment, timeUs, i > 0)) {
        i++;
        continue;
      }
      const record = this.take(flow, deferred, i);
      count(reassembly.counts, 'ack_before_data');
      if (half !== undefined) host.process(flow, half, record);
      i = 0;
    }
  }

  /** Takes all packets of the connection that wait, as they are. */
  release(flow: Flow): void {
    for (let { deferred } = flow; deferred !== undefined && !flow.closed; deferred = flow.deferred) {
      const record = this.take(flow, deferred, 0);
      const half = this.host.aim(flow, record);
      if (half !== undefined) this.host.process(flow, half, record);
    }
  }

  /** The packet at `index` waits no longer. */
  private take(flow: Flow, deferred: Deferred, index: number): PacketRecord {
    const [record] = deferred.records.splice(index, 1);
    this.charge(flow, deferred, -record!.bytes.length - BUFFER_COST);
    if (deferred.records.length === 0) this.forget(flow);
    return record!;
  }

  forget(flow: Flow): void {
    if (flow.deferred === undefined) return;
    const { deferred } = flow;
    this.charge(flow, deferred, -deferred.bytes);
    deferred.records.length = 0;
    flow.deferred = undefined;
    this.flows.delete(flow);
  }

  /** Those whose packets have waited for long enough. */
  *due(timeUs: number): Iterable<Flow> {
    for (const flow of this.flows) {
      if (flow.deferred!.dueUs > timeUs) return;
      yield flow;
    }
  }

  private charge(flow: Flow, deferred: Deferred, bytes: number): void {
    flow.memory.charge(bytes);
    deferred.bytes += bytes;
    this.reassembly.heldBytes += bytes;
  }
}
