/**
 * Resets: which of them end the connection (RFC 9293 3.10.7.4, RFC 5961 3.2).
 *
 * Its receiver drops one that lies outside of its window; ends the connection when the number is exactly the next one that it expects; and
 * answers any other with an acknowledgement, to which an end that has really gone replies with a reset that fits. What the receiver expects is
 * seen from outside only in part: it is no less than what it has acknowledged, and no more than what was sent. A reset between, or ahead of what was
 * seen but in the window, is in doubt: any packet that follows shows that the connection goes on, silence that it has ended.
 */
import { ACK, type Segment } from '../packet/decode.ts';
import { type Direction, opposite } from './connection.ts';
import type { Flow } from './flow.ts';

export type ResetVerdict = 'certain' | 'doubtful' | 'refused';

/** @param windowBytes how far a number may be from what was seen, where the receiver's window is not known */
export function judgeReset(flow: Flow, segment: Segment, direction: Direction, windowBytes: number): ResetVerdict {
  const half = flow.halves[direction];
  const other = flow.halves[opposite(direction)];
  // Of a muted connection, and of one without data, the numbers say nothing, or there is nothing to lose.
  if (flow.muted) return 'certain';
  const { initialSequence, startSeen } = flow.connection;
  if (startSeen && !half.started)
    return judgeRefusal(initialSequence[opposite(direction)], other.highest, segment, windowBytes);
  if (!half.started) {
    if (half.ackKnown) return ((segment.seq - half.acked) | 0) === 0 ? 'certain' : 'doubtful';
    const related = (segment.flags & ACK) === 0 || !other.started || other.distance(segment.ack) <= windowBytes;
    return related ? 'doubtful' : 'refused';
  }
  const sent = half.highest;
  const ahead = (segment.seq - sent) | 0;
  // Linux takes the number of the FIN itself, too.
  if (ahead === 0 || (half.finSequence >= 0 && segment.seq === half.finSequence)) return 'certain';
  if (!half.ackKnown) return Math.abs(ahead) <= windowBytes ? 'doubtful' : 'refused';
  if (ahead < 0) return ((segment.seq - half.acked) | 0) >= 0 ? 'doubtful' : 'refused';
  return ((segment.seq - half.windowEnd) | 0) <= 0 ? 'doubtful' : 'refused';
}

/** RFC 9293 3.10.7.3: the answer to a SYN must acknowledge it. */
function judgeRefusal(initial: number, sent: number, { flags, ack }: Segment, windowBytes: number): ResetVerdict {
  if ((flags & ACK) === 0) return 'refused';
  const beyond = (ack - sent) | 0;
  if (((ack - initial) | 0) <= 0) return 'refused';
  return beyond <= 0 ? 'certain' : beyond <= windowBytes ? 'doubtful' : 'refused';
}

/** A reset in doubt. */
export interface Doubt {
  /** Of the end that has sent it. */
  readonly direction: Direction;
  readonly sequence: number;
  readonly timeUs: number;
}

/** The connections with a reset in doubt, by its age. */
export class Doubts {
  private readonly flows = new Set<Flow>();
  /** Packets of the end that has sent the reset may stand behind it in the capture though they came before, by so much time. */
  private readonly reorderUs: number;

  constructor(reorderUs: number) {
    this.reorderUs = reorderUs;
  }

  add(flow: Flow, doubt: Doubt): void {
    if (flow.doubt !== undefined) return;
    flow.doubt = doubt;
    this.flows.add(flow);
  }

  /** A packet that is no reset has come. */
  sees(flow: Flow, doubt: Doubt, { seq, payloadLength }: Segment, direction: Direction, timeUs: number): void {
    const isLate =
      direction === doubt.direction &&
      timeUs - doubt.timeUs <= this.reorderUs &&
      ((seq + payloadLength - doubt.sequence) | 0) <= 0;
    if (!isLate) this.remove(flow);
  }

  remove(flow: Flow): void {
    if (flow.doubt === undefined) return;
    flow.doubt = undefined;
    this.flows.delete(flow);
  }

  /** Those whose doubt is as old as `sinceUs`. */
  *due(sinceUs: number): Iterable<Flow> {
    for (const flow of this.flows) {
      if (flow.doubt!.timeUs > sinceUs) return;
      yield flow;
    }
  }
}
