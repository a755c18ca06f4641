/**
 * A passive parser of both directions of one HTTP/2 connection (RFC 9113).
 *
 * Theory of operation. Each direction is a chain of frames (reader.ts), its header blocks are put together and decoded (block.ts,
 * hpack.ts), and what they say is passed to the streams that both directions share (conversation.ts).
 *
 *     START    the client's preface; last byte -> HEADER
 *     HEADER   the nine octets of a frame header -> GATHER, CONTENT or SKIP; a payload that is there is read at once
 *     GATHER   HEADERS, CONTINUATION, PUSH_PROMISE, RST_STREAM, GOAWAY, SETTINGS: read when whole -> HEADER
 *     CONTENT  DATA: counted and shown to the stream's observer as it comes; last byte -> HEADER
 *     SKIP     every other frame: passed over -> HEADER
 *     LOST     the place in the stream is not known; a proven frame boundary -> HEADER (resync.ts)
 *     ENDED    no more bytes
 *
 * A stream ends when both of its ends do, by RST_STREAM, by GOAWAY, or with its connection. CONNECT ends with its 2xx.
 *
 * What is lost stays lost: a hole within DATA, or within a frame of no interest, is survived since the header said where the next one
 * begins. Any other hole, and bytes that are no HTTP/2, lead to LOST. From there:
 * - The next boundary is where frame headers follow each other, each at the place that the one before announced.
 * - HPACK's table forgets everything, and an index that refers to what was inserted before is a field of which nothing is known.
 * - Streams go on. Whether a stream lost content, or its end, shows when the next of its frames comes: behind the final response's header
 *   list it is damaged (`gap`); before it there was nothing to lose but interim responses. A stream whose end may lie in a hole is given up
 *   when its connection ends, when its place is needed, or after a long silence.
 * A response whose request was not seen waits for it if it may still come (an orphan): request ids only grow, so the next higher one
 * says that it will not.
 */

import { type Direction, type EndReason, FROM_CLIENT, FROM_SERVER, type Layer } from '../../flow/connection.ts';
import { Charge } from '../../memory/budget.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { LayerContext } from '../layer.ts';
import { Conversation } from './conversation.ts';
import type { FieldNames } from './names.ts';
import type { StreamProtocol } from './observer.ts';
import { FrameReader } from './reader.ts';
import type { Stream } from './stream.ts';

/** What an upgrade from HTTP/1.1 leaves. */
export interface Upgraded {
  /** Stream 1. */
  readonly stream: Stream;
  /** Bytes of each direction that went before. */
  readonly offsets: readonly [number, number];
}

export class Http2Layer implements Layer {
  private readonly conversation: Conversation;
  private readonly readers: readonly [FrameReader, FrameReader];
  private readonly charge: Charge;

  constructor(
    context: LayerContext<HttpLimits>,
    names: FieldNames,
    protocols: readonly StreamProtocol[],
    upgraded?: Upgraded,
  ) {
    const joined = upgraded === undefined && !context.connection.startSeen;
    const conversation = new Conversation(context, protocols, joined);
    const offsets = upgraded?.offsets ?? [0, 0];
    const client = new FrameReader(FROM_CLIENT, conversation, names, offsets[FROM_CLIENT], joined);
    const server = new FrameReader(FROM_SERVER, conversation, names, offsets[FROM_SERVER], joined);
    client.peer = server;
    server.peer = client;
    conversation.inStep = (direction) => this.readers[direction].inStep;
    this.conversation = conversation;
    this.charge = new Charge(context.memory);
    this.readers = [client, server];
    if (upgraded !== undefined) conversation.adopt(upgraded.stream);
    this.settle();
  }

  /** Bytes held between calls, of what grows with its input. */
  get heldBytes(): number {
    return this.readers[0].heldBytes + this.readers[1].heldBytes;
  }

  /** Streams held between calls. */
  get heldExchanges(): number {
    return this.conversation.size;
  }

  data(direction: Direction, bytes: Buffer, start: number, end: number, timeUs: number, firstUs = timeUs): void {
    if (this.conversation.over) return;
    this.readers[direction].data(bytes, start, end, timeUs, firstUs);
    this.releaseIfOver();
  }

  gap(direction: Direction, length: number, timeUs: number): void {
    if (this.conversation.over) return;
    this.readers[direction].gap(length, timeUs);
    this.releaseIfOver();
  }

  end(direction: Direction, reason: EndReason, timeUs: number): void {
    if (this.conversation.over) return;
    this.readers[direction].end(reason, timeUs);
    this.settle();
  }

  close(reason: EndReason, timeUs: number): void {
    if (this.conversation.over) return;
    this.conversation.close(reason, timeUs);
    this.releaseIfOver();
  }

  tick(timeUs: number): void {
    if (this.conversation.over) return;
    this.conversation.tick(timeUs);
    this.settle();
  }

  /** Charges what is held between calls. */
  private settle(): void {
    this.charge.set(this.readers[0].cost + this.readers[1].cost + this.conversation.cost);
  }

  private releaseIfOver(): void {
    if (this.conversation.over) for (const reader of this.readers) reader.release();
    this.settle();
  }
}
