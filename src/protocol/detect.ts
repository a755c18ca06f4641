import {
  type Connection,
  type Direction,
  type EndReason,
  FROM_CLIENT,
  FROM_SERVER,
  type Layer,
  opposite,
} from '../flow/connection.ts';
import { Charge } from '../memory/budget.ts';
import { bufferCost } from '../memory/cost.ts';
import { count } from '../telemetry/counters.ts';
import { isAlertAlone } from '../tls/detect.ts';
import type { Detection, LayerContext, Protocol } from './layer.ts';

/** Why the protocol of a byte stream stays unknown: keys of `connections.unrecognised`. */
export type UnrecognisedReason =
  /** No candidate knows these bytes. */
  | 'no_match'
  /** More than one candidate knows them. */
  | 'ambiguous'
  /** Not enough was seen within the bytes that the limits allow. */
  | 'limit'
  /** The connection is older than the capture, and no message began where its segments begin. */
  | 'start_not_seen'
  /** The connection ended first. */
  | 'closed'
  /** Nothing but a TLS alert of one end was seen: a server ends so what has only connected, such as a health probe. */
  | 'alert_alone';

/**
 * Finds out which protocol a connection speaks, then is only a door to that protocol's layer.
 *
 * The first bytes of both directions are kept, with their times and in the order of their arrival, until exactly one candidate
 * says yes; they are then replayed to its layer. When no candidate can say yes any more, or the limits are reached, the reason is
 * counted, the connection muted and what was kept released.
 *
 * Of a stream whose start is missing (connection.startSeen is false, or a hole came first), the place of the first bytes is not
 * known: a candidate is tried again with each segment that may begin a message, which is one that follows bytes of the other
 * direction: together with what is held, and alone when no candidate knows both. What was passed over reaches the layer as a gap, so that offsets
 * stay true.
 *
 * Which end is the client is a guess then. Bytes that no candidate knows from this end, and one knows from the other, tell that the
 * guess was wrong: the two ends change places.
 *
 * @param candidates the protocols to look for; their order does not matter
 */
export function createDetectLayer(context: LayerContext, candidates: readonly Protocol[]): Layer {
  return new DetectLayer(context, candidates);
}

const NOTHING = Buffer.alloc(0);

/** What one direction showed so far. */
class Side {
  /** Contiguous bytes that wait for a verdict. */
  bytes: Buffer = NOTHING;
  length = 0;
  /** The bytes' place in the stream is not known. */
  adrift: boolean;

  constructor(adrift: boolean) {
    this.adrift = adrift;
  }

  append(bytes: Buffer, start: number, end: number): void {
    const length = this.length + end - start;
    if (length > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(length, this.bytes.length * 2));
      this.bytes.copy(grown, 0, 0, this.length);
      this.bytes = grown;
    }
    bytes.copy(this.bytes, this.length, start, end);
    this.length = length;
  }
}

/** A call that waits to be replayed. Bytes are those of its side, in order. */
interface Held {
  readonly kind: 'data' | 'gap' | 'end';
  readonly direction: Direction;
  length: number;
  readonly reason: EndReason;
  readonly timeUs: number;
  readonly firstUs: number;
}

/** What an event that waits costs beside its bytes. */
const HELD_COST = 96;

class DetectLayer implements Layer {
  /** The layer of the protocol once it is known: all that data() looks at from then on. */
  private child: Layer | undefined;
  private readonly context: LayerContext;
  private readonly candidates: readonly Protocol[];
  private readonly connection: Connection;
  private readonly charge: Charge;
  private sides: readonly [Side, Side];
  private held: Held[] = [];
  private lastDirection: Direction | undefined;
  private tries = 0;
  private abandoned = false;

  constructor(context: LayerContext, candidates: readonly Protocol[]) {
    this.context = context;
    this.candidates = candidates;
    this.connection = context.connection;
    this.charge = new Charge(context.memory);
    const adrift = !context.connection.startSeen;
    this.sides = [new Side(adrift), new Side(adrift)];
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs = timeUs): void {
    if (this.child !== undefined) this.child.data(direction, bytes, start, end, timeUs, firstUs);
    else if (!this.abandoned && end > start) {
      this.examine(direction, bytes, start, end, timeUs, firstUs);
      this.settle();
    }
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    if (this.child !== undefined) this.child.gap(direction, length, timeUs);
    else if (!this.abandoned) {
      this.passOver(direction);
      this.sides[direction].adrift = true;
      this.hold('gap', direction, length, 'fin', timeUs);
      this.settle();
    }
  }

  lossAhead(direction: Direction): void {
    this.child?.lossAhead?.(direction);
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    if (this.child !== undefined) this.child.end(direction, reason, timeUs);
    else if (!this.abandoned) this.hold('end', direction, 0, reason, timeUs);
  }

  close(reason: EndReason, timeUs: number): void {
    if (this.child !== undefined) this.child.close(reason, timeUs);
    else if (!this.abandoned) {
      this.abandoned = true;
      if (this.held.some((held) => held.kind === 'data'))
        this.countUnrecognised(this.isAlertAlone() ? 'alert_alone' : 'closed');
      else if (this.tries > 0) this.countUnrecognised('start_not_seen');
      this.releaseHeld();
    }
  }

  tick(timeUs: number): void {
    this.child?.tick?.(timeUs);
  }

  private isAlertAlone(): boolean {
    const [client, server] = this.sides;
    if ((client.length === 0) === (server.length === 0)) return false;
    const side = client.length === 0 ? server : client;
    return isAlertAlone(side.bytes, 0, side.length);
  }

  /** Bytes held between calls while the protocol is not known. */
  get heldBytes(): number {
    return this.sides[0].bytes.length + this.sides[1].bytes.length;
  }

  private settle(): void {
    const [client, server] = this.sides;
    this.charge.set(bufferCost(client.bytes) + bufferCost(server.bytes) + this.held.length * HELD_COST);
  }

  private examine(
    direction: Direction,
    bytes: Buffer,
    start: number,
    end: number,
    timeUs: number,
    firstUs: number,
  ): void {
    const side = this.sides[direction];
    const alpn = this.connection.tls?.alpn;
    const mayBegin = this.lastDirection !== direction;
    this.lastDirection = direction;
    if (side.adrift && side.length === 0 && !mayBegin) {
      this.hold('gap', direction, end - start, 'fin', timeUs);
      return;
    }
    const named = alpn === undefined ? undefined : this.candidates.find((candidate) => candidate.alpn?.includes(alpn));
    let protocol = named ?? this.verdict(direction, bytes, start, end);
    if (protocol === undefined && side.adrift && side.length > 0 && mayBegin) {
      protocol = this.verdictAlone(direction, bytes, start, end);
      if (this.abandoned) return;
    }
    if (this.impossible && named === undefined) {
      const other = this.fromOtherEnd(direction, bytes, start, end);
      if (other !== undefined && this.context.swapRoles?.() === true) {
        this.swapSides();
        this.become(other);
        this.child!.data(opposite(direction), bytes, start, end, timeUs, firstUs);
        return;
      }
    }
    if (protocol !== undefined) {
      this.become(protocol);
      this.child!.data(direction, bytes, start, end, timeUs, firstUs);
      return;
    }
    side.append(bytes, start, end);
    this.hold('data', direction, end - start, 'fin', timeUs, firstUs);
    if (this.impossible) this.reject(direction);
    else if (side.length > this.context.limits.detectionBytes) {
      if (side.adrift) this.reject(direction);
      else if (this.hinted !== undefined) this.become(this.hinted);
      else this.abandon(this.yesCount > 1 ? 'ambiguous' : 'limit');
    }
  }

  /** Set by verdict(): how many candidates said yes, and whether none can any more. */
  private yesCount = 0;
  private impossible = false;
  /** Of several candidates that said yes, the only one whose port this is. */
  private hinted: Protocol | undefined = undefined;

  /** The one candidate that knows these bytes, if it is only one. */
  private verdict(direction: Direction, bytes: Buffer, start: number, end: number): Protocol | undefined {
    const side = this.sides[direction];
    let from = start;
    let to = end;
    let all = bytes;
    if (side.length > 0) {
      all = Buffer.concat([side.bytes.subarray(0, side.length), bytes.subarray(start, end)]);
      from = 0;
      to = all.length;
    }
    let found: Protocol | undefined;
    let byPort: Protocol | undefined;
    let hints = 0;
    this.yesCount = 0;
    this.impossible = true;
    for (const candidate of this.candidates) {
      const here = candidate.detect(direction, all, from, to, this.connection);
      if (here === 'no') continue;
      const there = this.otherSide(candidate, direction);
      if (there === 'no') continue;
      this.impossible = false;
      if (here !== 'yes' && there !== 'yes' && (here !== 'likely' || there !== 'likely')) continue;
      this.yesCount++;
      found = candidate;
      if (candidate.ports?.includes(this.connection.server.port)) {
        hints++;
        byPort = candidate;
      }
    }
    this.hinted = hints === 1 && this.yesCount > 1 ? byPort : undefined;
    return this.yesCount === 1 ? found : undefined;
  }

  /**
   * The verdict on bytes that may begin a message, without what is held before them, whose place is not known. What is held is passed over when
   * one candidate knows these bytes alone, or when nobody knows both together.
   */
  private verdictAlone(direction: Direction, bytes: Buffer, start: number, end: number): Protocol | undefined {
    const side = this.sides[direction];
    const { yesCount, impossible } = this;
    const held = side.length;
    side.length = 0;
    const protocol = this.verdict(direction, bytes, start, end);
    side.length = held;
    if (protocol !== undefined || impossible) {
      this.reject(direction);
    } else {
      this.yesCount = yesCount;
      this.impossible = false;
    }
    return protocol;
  }

  /** The one candidate that knows these bytes as those of the other end, while nothing else is known of either. */
  private fromOtherEnd(direction: Direction, bytes: Buffer, start: number, end: number): Protocol | undefined {
    if (this.connection.startSeen || this.sides[0].length > 0 || this.sides[1].length > 0) return undefined;
    let found: Protocol | undefined;
    for (const candidate of this.candidates) {
      if (candidate.detect(opposite(direction), bytes, start, end, this.connection) !== 'yes') continue;
      if (found !== undefined) return undefined;
      found = candidate;
    }
    return found;
  }

  private swapSides(): void {
    this.sides = [this.sides[1], this.sides[0]];
    this.held = this.held.map((held) => ({ ...held, direction: opposite(held.direction) }));
  }

  private otherSide(candidate: Protocol, direction: Direction): Detection {
    const other: Direction = direction === FROM_CLIENT ? FROM_SERVER : FROM_CLIENT;
    const side = this.sides[other];
    if (side.length === 0) return 'maybe';
    const said = candidate.detect(other, side.bytes, 0, side.length, this.connection);
    // The middle of a message is no evidence against a protocol.
    return said === 'no' && side.adrift ? 'maybe' : said;
  }

  /** No candidate knows the bytes of this direction. */
  private reject(direction: Direction): void {
    if (!this.sides[direction].adrift) {
      this.abandon('no_match');
      return;
    }
    this.passOver(direction);
    if (++this.tries >= this.context.limits.detectionTries) this.abandon('start_not_seen');
  }

  /** Turns what is held of this direction into a gap. */
  private passOver(direction: Direction): void {
    const side = this.sides[direction];
    if (side.length === 0) return;
    side.length = 0;
    // A segment may be larger than what may be held.
    if (side.bytes.length > this.context.limits.detectionBytes) side.bytes = NOTHING;
    const held = this.held;
    this.held = [];
    for (const h of held) {
      if (h.direction === direction && h.kind === 'data') this.hold('gap', direction, h.length, h.reason, h.timeUs);
      else this.held.push(h);
    }
  }

  private hold(
    kind: Held['kind'],
    direction: Direction,
    length: number,
    reason: EndReason,
    timeUs: number,
    firstUs = timeUs,
  ): void {
    if (kind === 'gap') {
      // Gaps with no data between them in their direction are one, so that what is held has a bound.
      for (let i = this.held.length - 1; i >= 0; i--) {
        const h = this.held[i]!;
        if (h.direction !== direction) continue;
        if (h.kind !== 'gap') break;
        h.length += length;
        return;
      }
    }
    this.held.push({ kind, direction, length, reason, timeUs, firstUs });
  }

  private become(protocol: Protocol): void {
    const child = protocol.create(this.context);
    const positions: [number, number] = [0, 0];
    for (const { kind, direction, length, reason, timeUs, firstUs } of this.held) {
      switch (kind) {
        case 'data': {
          const from = positions[direction];
          positions[direction] = from + length;
          child.data(direction, this.sides[direction].bytes, from, from + length, timeUs, firstUs);
          break;
        }
        case 'gap':
          child.gap(direction, length, timeUs);
          break;
        case 'end':
          child.end(direction, reason, timeUs);
          break;
      }
    }
    this.child = child;
    this.releaseHeld();
  }

  private abandon(reason: UnrecognisedReason): void {
    this.abandoned = true;
    this.countUnrecognised(reason);
    this.releaseHeld();
    this.context.mute();
  }

  private countUnrecognised(reason: UnrecognisedReason): void {
    count(this.context.counters.connections.unrecognised, reason);
  }

  private releaseHeld(): void {
    this.held = [];
    for (const side of this.sides) {
      side.bytes = NOTHING;
      side.length = 0;
    }
    this.settle();
  }
}
