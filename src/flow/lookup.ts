import type { PacketRecord } from '../capture/records.ts';
import type { Segment } from '../packet/decode.ts';
import { type Direction, FROM_CLIENT, FROM_SERVER } from './connection.ts';

/** The addresses and ports of a connection, kept as numbers so that they compare without allocation. */
export interface Tuple {
  /** Words of the address, most significant first; IPv4 has one, the others are 0. */
  readonly client: readonly number[];
  readonly server: readonly number[];
  readonly clientPort: number;
  readonly serverPort: number;
  readonly family: 4 | 6;
  /** 0, or the network namespace where the same addresses can mean other sockets. */
  readonly scope: number;
  readonly hash: number;
}

/** What TupleTable keeps. */
export interface Tupled<T> {
  readonly tuple: Tuple;
  nextInBucket: T | undefined;
}

/** Places at first; a power of two. */
const PLACES = 256;

/**
 * Finds connections by the addresses and ports of a segment, whichever end sent it.
 *
 * Chains by a 32-bit hash (seeded: senders must not be able to choose collisions). Not a Map: where entries come and go, a Map makes
 * itself a new table now and then, and what was in the old one stays in memory until the next full collection, since the tables are linked.
 */
export class TupleTable<T extends Tupled<T>> {
  /** The direction of the segment last found. */
  direction: Direction = FROM_CLIENT;
  private buckets: (T | undefined)[] = new Array(PLACES).fill(undefined);
  private size = 0;
  /** Members may move between tables that have the same. */
  readonly seed: number;

  constructor(seed: number = (Math.random() * 0x1_0000_0000) | 0) {
    this.seed = seed;
  }

  find(bytes: Buffer, segment: Segment, scope: number): T | undefined {
    let member = this.buckets[this.hash(bytes, segment, scope) & (this.buckets.length - 1)];
    while (member !== undefined) {
      const tuple = member.tuple;
      if (tuple.scope === scope && tuple.family === segment.family) {
        if (isFrom(tuple, tuple.client, tuple.clientPort, tuple.server, tuple.serverPort, bytes, segment)) {
          this.direction = FROM_CLIENT;
          return member;
        }
        if (isFrom(tuple, tuple.server, tuple.serverPort, tuple.client, tuple.clientPort, bytes, segment)) {
          this.direction = FROM_SERVER;
          return member;
        }
      }
      member = member.nextInBucket;
    }
    return undefined;
  }

  /** @param sender which end sent the segment */
  tupleOf(bytes: Buffer, segment: Segment, scope: number, sender: Direction): Tuple {
    const source = words(bytes, segment.srcAddressStart, segment.addressLength);
    const destination = words(bytes, segment.dstAddressStart, segment.addressLength);
    const fromClient = sender === FROM_CLIENT;
    return {
      client: fromClient ? source : destination,
      server: fromClient ? destination : source,
      clientPort: fromClient ? segment.srcPort : segment.dstPort,
      serverPort: fromClient ? segment.dstPort : segment.srcPort,
      family: segment.family,
      scope,
      hash: this.hash(bytes, segment, scope),
    };
  }

  add(member: T): void {
    if (this.size >= this.buckets.length) this.grow();
    this.size++;
    this.insert(member);
  }

  /** The member must be in this table. */
  remove(member: T): void {
    const at = member.tuple.hash & (this.buckets.length - 1);
    let other = this.buckets[at];
    if (other === member) {
      this.buckets[at] = member.nextInBucket;
    } else {
      while (other !== undefined && other.nextInBucket !== member) other = other.nextInBucket;
      if (other !== undefined) other.nextInBucket = member.nextInBucket;
    }
    member.nextInBucket = undefined;
    this.size--;
  }

  private insert(member: T): void {
    const at = member.tuple.hash & (this.buckets.length - 1);
    member.nextInBucket = this.buckets[at];
    this.buckets[at] = member;
  }

  private grow(): void {
    const members = this.buckets;
    this.buckets = new Array(2 * members.length).fill(undefined);
    for (let member of members) {
      while (member !== undefined) {
        const next: T | undefined = member.nextInBucket;
        this.insert(member);
        member = next;
      }
    }
  }

  /** The same for both directions: the sum of both ends' hashes. */
  private hash(bytes: Buffer, segment: Segment, scope: number): number {
    const source = this.hashEnd(bytes, segment.srcAddressStart, segment.addressLength, segment.srcPort);
    const destination = this.hashEnd(bytes, segment.dstAddressStart, segment.addressLength, segment.dstPort);
    return mix((source + destination) ^ scope);
  }

  private hashEnd(bytes: Buffer, start: number, length: number, port: number): number {
    let hash = this.seed ^ port;
    for (let i = 0; i < length; i += 4) hash = mix(hash ^ word(bytes, start + i));
    return mix(hash);
  }
}

function isFrom(
  tuple: Tuple,
  source: readonly number[],
  sourcePort: number,
  destination: readonly number[],
  destinationPort: number,
  bytes: Buffer,
  segment: Segment,
): boolean {
  if (segment.srcPort !== sourcePort || segment.dstPort !== destinationPort) return false;
  const count = tuple.family === 4 ? 1 : 4;
  for (let i = 0; i < count; i++) {
    if (word(bytes, segment.srcAddressStart + 4 * i) !== source[i]) return false;
    if (word(bytes, segment.dstAddressStart + 4 * i) !== destination[i]) return false;
  }
  return true;
}

/** Exactly as long as it is: an array that grows by pushes has room for seventeen. */
function words(bytes: Buffer, start: number, length: number): number[] {
  if (length === 4) return [word(bytes, start)];
  return [word(bytes, start), word(bytes, start + 4), word(bytes, start + 8), word(bytes, start + 12)];
}

function word(bytes: Buffer, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

/** The finalizer of MurmurHash3 (public domain): every bit of the input reaches every bit of the output. */
function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** Interface index of `lo` in every network namespace. */
const LOOPBACK_IFINDEX = 1;

/**
 * 0, or the network namespace where it tells apart what has the same addresses. Packets of a file have none; those that the kernel
 * sends by itself, a SYN-ACK or RST, have one but no socket.
 */
export function scopeOf(record: PacketRecord, segment: Segment): number {
  if (record.ifindex === LOOPBACK_IFINDEX) return record.netns | 0;
  return segment.family === 4 && record.bytes[segment.srcAddressStart] === 127 ? record.netns | 0 : 0;
}
