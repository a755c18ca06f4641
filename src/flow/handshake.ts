import { DIRECTION_EGRESS, type PacketRecord } from '../capture/records.ts';
import { ACK, FIN, PSH, RST, type Segment, SYN } from '../packet/decode.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import { type Direction, FROM_CLIENT, opposite } from './connection.ts';
import type { Flow } from './flow.ts';
import { MAX_WINDOW_SHIFT } from './half.ts';

/** What a SYN or SYN-ACK is to a connection with its addresses and ports. */
export type Handshake =
  /** Of its handshake, or a copy. */
  | 'own'
  /** Of no connection: its receiver refuses it. */
  | 'stray'
  /** Of another one, if it is of any. */
  | 'other';

/**
 * A SYN or SYN-ACK that is not of the connection it was found by: a later one with the same addresses and ports, or a stray packet, to which the
 * receiver answers with an acknowledgement of what it has, while the connection goes on (RFC 5961 4.2, RFC 9293 3.10.7.4). The answer tells.
 */
export interface Rival {
  /** Of the end that opens, in terms of the connection that is there. */
  readonly direction: Direction;
  /** Initial sequence numbers of the end that opens and, -1 until its SYN-ACK is seen, of the other. */
  readonly initial: number;
  readonly answer: number;
  readonly timeUs: number;
  /** Data on the SYN (RFC 7413), a copy. */
  readonly payload: Buffer;
  readonly scale: number;
  /** The socket that was seen sending the SYN, 0 when it was not. */
  readonly cookie: number;
}

const NOTHING = Buffer.alloc(0);
/** Its SYN was not seen; it was seen without the option. */
export const SCALE_UNKNOWN = -2;
const NO_SCALE = -1;

/** What a packet that is not `flow`'s own leaves behind. */
export function rivalOf(flow: Flow, record: PacketRecord, segment: Segment, direction: Direction): Rival {
  const known = flow.rival;
  const { bytes, timeUs } = record;
  if ((segment.flags & ACK) !== 0) {
    const initial = (segment.ack - 1) >>> 0;
    const opener = opposite(direction);
    return known !== undefined && known.direction === opener && known.initial === initial
      ? { ...known, answer: segment.seq }
      : { direction: opener, initial, answer: segment.seq, timeUs, payload: NOTHING, scale: SCALE_UNKNOWN, cookie: 0 };
  }
  if (known !== undefined && known.direction === direction && known.initial === segment.seq) return known;
  return {
    direction,
    initial: segment.seq,
    answer: -1,
    timeUs,
    payload: Buffer.from(bytes.subarray(segment.payloadStart, segment.payloadEnd)),
    scale: scaleOf(bytes, segment),
    cookie: record.direction === DIRECTION_EGRESS ? record.cookie : 0,
  };
}

/**
 * Whether a packet shows that the rival is a connection of its own: the other end answers its SYN, be it with a refusal, or its own end goes on
 * where its SYN has begun.
 */
export function isProvenBy({ rival, halves }: Flow, segment: Segment, direction: Direction): boolean {
  if (rival === undefined) return false;
  const { flags, seq, ack, payloadLength } = segment;
  if (direction !== rival.direction) {
    // A SYN-ACK that has made the rival is no answer to it.
    const accepted = rival.answer === -1 ? (ack - rival.initial - 1) | 0 : -1;
    return (flags & (SYN | RST)) !== 0 && (flags & ACK) !== 0 && accepted >= 0 && accepted <= rival.payload.length;
  }
  if ((flags & (SYN | RST | ACK)) !== ACK || ((seq - rival.initial) | 0) !== 1 || seq === halves[direction].next)
    return false;
  return rival.answer === -1 ? payloadLength > 0 : ((ack - rival.answer) | 0) === 1;
}

/** Whether a SYN or SYN-ACK belongs to this connection, which then learns its initial sequence number. */
export function handshakeOf(
  flow: Flow,
  bytes: Buffer,
  segment: Segment,
  direction: Direction,
  counts: ReasonCounts,
): Handshake {
  const isAnswer = (segment.flags & ACK) !== 0;
  const half = flow.halves[direction];
  const known = flow.connection.initialSequence[direction];
  const other = flow.connection.initialSequence[opposite(direction)];
  if (known === segment.seq) {
    if (!half.seenAtSender) count(counts, 'retransmission');
    return 'own';
  }
  if (isAnswer) {
    if (other === -1) return 'other';
    if (segment.ack !== (other + 1) >>> 0 && !flow.carriedData) {
      // An answer to an older SYN of the same ports; its receiver will refuse it.
      count(counts, 'bad_syn_ack');
      return 'stray';
    }
    if (known !== -1 && (flow.carriedData || half.ackKnown)) return 'other';
    if (((segment.ack - other - 1) | 0) < 0) return 'other';
  } else if (known !== -1 || !flow.connection.startSeen || direction === FROM_CLIENT || half.started) {
    return 'other'; // else a simultaneous open: the other end's own SYN
  }
  learnStart(flow, direction, segment.seq, scaleOf(bytes, segment));
  return 'own';
}

/** @param sequence of the SYN of `direction`; @param scale see scaleOf */
export function learnStart(flow: Flow, direction: Direction, sequence: number, scale: number): void {
  flow.connection.initialSequence[direction] = sequence;
  if (!flow.carriedData || !flow.halves[direction].started) flow.halves[direction].start((sequence + 1) >>> 0);
  if (scale === SCALE_UNKNOWN) return;
  // RFC 7323 2.2: windows are scaled when both ends have said by how much.
  flow.scales[direction] = scale;
  const [client, server] = flow.scales;
  if (client === SCALE_UNKNOWN || server === SCALE_UNKNOWN) return;
  const scaled = client !== NO_SCALE && server !== NO_SCALE;
  for (const half of flow.halves) half.windowShift = scaled ? flow.scales[opposite(half.direction)] : 0;
}

const END_OF_OPTIONS = 0;
const NO_OPERATION = 1;
const WINDOW_SCALE = 3;

/** @returns the window scale option of a SYN (RFC 7323 2.2), -1 when it has none, -2 when its options were not captured whole */
export function scaleOf(bytes: Buffer, { tcpStart, payloadStart }: Segment): number {
  const end = tcpStart + (bytes[tcpStart + 12]! >> 4) * 4;
  if (end > payloadStart) return SCALE_UNKNOWN;
  let at = tcpStart + 20;
  while (at < end && bytes[at] !== END_OF_OPTIONS) {
    const kind = bytes[at]!;
    const length = kind === NO_OPERATION ? 1 : at + 1 < end ? bytes[at + 1]! : 0;
    if (length === 0 || at + length > end) break;
    if (kind === WINDOW_SCALE && length === 3) return Math.min(bytes[at + 2]!, MAX_WINDOW_SHIFT);
    at += length;
  }
  return NO_SCALE;
}

/** As the keep-alive of an idle end looks in some systems (RFC 9293 3.8.4): one byte that is not of the stream. */
export function isProbe({ flags, payloadLength }: Segment): boolean {
  return payloadLength === 1 && (flags & (PSH | FIN | SYN)) === 0;
}
