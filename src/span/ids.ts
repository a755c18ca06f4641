/**
 * Ids that two nodes compute alike without a word between them.
 *
 * Each connection has a seed of 256 bits:
 *   TLS            client_random, which is 32 random bytes already (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2)
 *   plain          SHA-256("wirespan tcp 1" || initial sequence number of the client || that of the server), both big-endian
 *   start not seen SHA-256("wirespan any 1" || salt || both endpoints || start time || number of the connection): not the same
 *                  elsewhere, but one seed for both local endpoints. The salt is random in an agent and empty in replay, whose output is reproducible.
 * client_random and the sequence numbers pass through address translation unchanged, so both endpoints see the same. A connection whose
 * client_random another one has already (relays.ts) is named as if it were plain; one whose sequence numbers another one has, as if its start
 * had not been seen.
 *
 * An exchange is named by the offset of its first byte in the client's application stream, split in two 32-bit halves (low, high).
 * With m = the 32-bit finalizer of MurmurHash3, a bijection, word i of the eight words is
 *
 *   m(seed[i] ^ m(low + i * 0x9e3779b9) ^ high * 0x85ebca6b)      (mod 2^32)
 *
 * Words 0-3 are the trace id, 4-5 the span id of the CLIENT span, 6-7 that of the SERVER span, whose parent is the CLIENT span.
 * For one connection each word is a bijection of `low`, so two exchanges less than 4 GiB apart can never share an id. An id of only
 * zeros is not valid and ends in 1 instead.
 */
import { hash } from 'node:crypto';
import type { Connection } from '../flow/connection.ts';
import { type PARENT_SPAN_ID, SPAN_ID, TRACE_ID } from './span.ts';

const TCP_PREFIX = Buffer.from('wirespan tcp 1');
const ANY_PREFIX = Buffer.from('wirespan any 1');

const CLIENT_WORD = 4;
const SERVER_WORD = 6;

/** What a connection is named by: its client_random if it has one, the numbers that it began with, or what only this process knows. */
export type NamedBy = 'session' | 'sequences' | 'place';

/**
 * @param salt keeps the ids of connections whose start was not seen apart from those of other agents
 * @param by what no other connection has that gives ids to spans of the same endpoints
 * @returns eight 32-bit words
 */
export function connectionSeed(connection: Connection, salt: Buffer, by: NamedBy = 'session'): Int32Array {
  const clientRandom = by === 'session' ? connection.tls?.clientRandom : undefined;
  const digest = clientRandom ?? hash('sha256', nameOf(connection, salt, by), 'buffer');
  const seed = new Int32Array(8);
  for (let i = 0; i < 8; i++) seed[i] = digest.readInt32BE(4 * i);
  return seed;
}

/** Both endpoints have seen, or would have, where the sequence numbers of this connection begin. */
export function hasSequences({ startSeen, initialSequence }: Connection): boolean {
  return startSeen && initialSequence[0] >= 0 && initialSequence[1] >= 0;
}

function nameOf(connection: Connection, salt: Buffer, by: NamedBy): Buffer {
  const [clientSequence, serverSequence] = connection.initialSequence;
  if (by !== 'place' && hasSequences(connection)) {
    const name = Buffer.allocUnsafe(TCP_PREFIX.length + 8);
    TCP_PREFIX.copy(name);
    name.writeUInt32BE(clientSequence >>> 0, TCP_PREFIX.length);
    name.writeUInt32BE(serverSequence >>> 0, TCP_PREFIX.length + 4);
    return name;
  }
  const { id, client, server, startUs } = connection;
  const rest = `${client.address} ${client.port} ${server.address} ${server.port} ${startUs} ${id}`;
  return Buffer.concat([ANY_PREFIX, salt, Buffer.from(rest)]);
}

/** Writes the trace id of the exchange at `streamOffset` to ids[0..16). */
export function writeTraceId(ids: Buffer, seed: Int32Array, streamOffset: number): void {
  const low = streamOffset | 0;
  const high = Math.floor(streamOffset / 4294967296);
  const a = word(seed, 0, low, high);
  const b = word(seed, 1, low, high);
  const c = word(seed, 2, low, high);
  let d = word(seed, 3, low, high);
  if ((a | b | c | d) === 0) d = 1;
  write32(ids, TRACE_ID, a);
  write32(ids, TRACE_ID + 4, b);
  write32(ids, TRACE_ID + 8, c);
  write32(ids, TRACE_ID + 12, d);
}

/** Writes the CLIENT span's id at `offset`, which is SPAN_ID, or PARENT_SPAN_ID for the SERVER span below it. */
export function writeClientSpanId(
  ids: Buffer,
  offset: typeof SPAN_ID | typeof PARENT_SPAN_ID,
  seed: Int32Array,
  streamOffset: number,
): void {
  writeSpanId(ids, offset, CLIENT_WORD, seed, streamOffset);
}

export function writeServerSpanId(ids: Buffer, seed: Int32Array, streamOffset: number): void {
  writeSpanId(ids, SPAN_ID, SERVER_WORD, seed, streamOffset);
}

function writeSpanId(ids: Buffer, offset: number, first: number, seed: Int32Array, streamOffset: number): void {
  const low = streamOffset | 0;
  const high = Math.floor(streamOffset / 4294967296);
  const a = word(seed, first, low, high);
  let b = word(seed, first + 1, low, high);
  if ((a | b) === 0) b = 1;
  write32(ids, offset, a);
  write32(ids, offset + 4, b);
}

function word(seed: Int32Array, i: number, low: number, high: number): number {
  return mix(seed[i]! ^ mix(low + Math.imul(i, 0x9e3779b9)) ^ Math.imul(high, 0x85ebca6b));
}

function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function write32(ids: Buffer, offset: number, value: number): void {
  ids[offset] = value >>> 24;
  ids[offset + 1] = value >>> 16;
  ids[offset + 2] = value >>> 8;
  ids[offset + 3] = value;
}
