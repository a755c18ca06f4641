import { type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import { bufferCost } from '../../memory/cost.ts';
import type { BlockPlace, Conversation } from './conversation.ts';
import {
  CONTINUATION,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FLAG_PADDED,
  FLAG_PRIORITY,
  HEADERS,
  PUSH_PROMISE,
  streamIdAt,
} from './frames.ts';
import { HeaderList } from './headers.ts';
import { HpackDecoder } from './hpack.ts';
import type { FieldNames } from './names.ts';

const NOTHING = Buffer.alloc(0);
/** A buffer that grew beyond this is not kept. */
const KEPT_BYTES = 4096;

/** Header blocks of one direction (RFC 9113 section 4.3): put together from their frames, decoded, handed to the conversation. */
export class BlockAssembler {
  /** CONTINUATION has to follow, on this stream. */
  open = false;
  streamId = 0;
  private readonly direction: Direction;
  private readonly conversation: Conversation;
  private readonly decoder: HpackDecoder;
  private readonly list: HeaderList;
  private readonly maxBytes: number;
  private type = HEADERS;
  private promisedId = 0;
  private endStream = false;
  private offset = 0;
  private firstUs = 0;
  private bytes = NOTHING;
  private length = 0;
  /** The block is longer than the limit: what comes is passed over. */
  private over = false;

  constructor(direction: Direction, conversation: Conversation, names: FieldNames) {
    const { limits } = conversation.context;
    this.direction = direction;
    this.conversation = conversation;
    this.decoder = new HpackDecoder(names, limits.http2TableBytes);
    this.list = new HeaderList(limits.http2HeaderFields);
    this.maxBytes = limits.httpHeaderBytes;
  }

  get heldBytes(): number {
    return this.bytes.length + this.decoder.tableBytes;
  }

  /** The same with what it costs (memory/cost.ts), and with the fields of the last list. */
  get cost(): number {
    return bufferCost(this.bytes) + this.decoder.cost + this.list.cost;
  }

  /**
   * The payload of HEADERS or PUSH_PROMISE.
   *
   * @returns false when it is none (sections 6.2 and 6.6)
   */
  begin(
    type: number,
    streamId: number,
    flags: number,
    bytes: Buffer,
    start: number,
    end: number,
    offset: number,
    firstUs: number,
    timeUs: number,
  ): boolean {
    let from = start;
    let to = end;
    if ((flags & FLAG_PADDED) !== 0) {
      if (from === to) return false;
      to -= bytes[from++]!;
    }
    if (type === PUSH_PROMISE) {
      if (from + 4 > to) return false;
      this.promisedId = streamIdAt(bytes, from);
      from += 4;
    } else if ((flags & FLAG_PRIORITY) !== 0) from += 5;
    if (from > to) return false;
    this.place(type, streamId, flags, offset, firstUs);
    if ((flags & FLAG_END_HEADERS) !== 0) this.decode(bytes, from, to, timeUs);
    else {
      this.open = true;
      this.append(bytes, from, to);
    }
    return true;
  }

  private place(type: number, streamId: number, flags: number, offset: number, firstUs: number): void {
    this.type = type;
    this.streamId = streamId;
    this.endStream = type === HEADERS && (flags & FLAG_END_STREAM) !== 0;
    this.offset = offset;
    this.firstUs = firstUs;
    this.length = 0;
    this.over = false;
  }

  /** The payload of CONTINUATION. */
  add(flags: number, bytes: Buffer, start: number, end: number, timeUs: number): void {
    this.append(bytes, start, end);
    if ((flags & FLAG_END_HEADERS) !== 0) this.whole(timeUs);
  }

  /** A frame that is longer than a block may be is passed over. */
  tooLong(type: number, streamId: number, flags: number, offset: number, firstUs: number, timeUs: number): void {
    if (type === HEADERS || type === PUSH_PROMISE) {
      this.promisedId = 0;
      this.place(type, streamId, flags, offset, firstUs);
    } else if (type !== CONTINUATION) return;
    this.open = true;
    this.over = true;
    if ((flags & FLAG_END_HEADERS) !== 0) this.whole(timeUs);
  }

  private append(bytes: Buffer, start: number, end: number): void {
    const length = this.length + end - start;
    if (this.over) return;
    if (length > this.maxBytes) {
      this.over = true;
      return;
    }
    if (length > this.bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(length, Math.min(this.bytes.length * 2, this.maxBytes)));
      this.bytes.copy(grown, 0, 0, this.length);
      this.bytes = grown;
    }
    bytes.copy(this.bytes, this.length, start, end);
    this.length = length;
  }

  private whole(timeUs: number): void {
    if (this.over) {
      this.cut('limit', timeUs);
      this.decoder.lose();
      return;
    }
    this.open = false;
    this.decode(this.bytes, 0, this.length, timeUs);
    this.shrink();
  }

  /** The rest of a block will not be seen: what came before still counts. */
  cut(reason: 'gap' | 'limit' | 'protocol_error', timeUs: number): void {
    if (!this.open) return;
    this.open = false;
    this.list.begin();
    this.decoder.decode(this.bytes, 0, this.length, this.list);
    this.list.cut = reason;
    this.deliver(timeUs);
    this.shrink();
  }

  /** Blocks of this direction may have been lost. */
  lose(): void {
    this.open = false;
    this.decoder.lose();
  }

  private decode(bytes: Buffer, start: number, end: number, timeUs: number): void {
    const { list } = this;
    list.begin();
    const valid = this.decoder.decode(bytes, start, end, list);
    if (!valid) list.cut = 'protocol_error';
    this.deliver(timeUs);
    if (valid) return;
    // An error of the connection for its peers (section 4.3). What the rest would have done to the table is not known.
    this.decoder.lose();
    this.conversation.parseError(timeUs);
  }

  private deliver(timeUs: number): void {
    const { conversation, list, streamId } = this;
    if (conversation.over) return;
    place.offset = this.offset;
    place.firstUs = this.firstUs;
    place.timeUs = timeUs;
    if (this.type === PUSH_PROMISE) conversation.promise(this.promisedId, list, place);
    else if (this.direction === FROM_CLIENT) conversation.requestHeaders(streamId, list, this.endStream, place);
    else conversation.responseHeaders(streamId, list, this.endStream, place);
    list.done();
  }

  private shrink(): void {
    this.length = 0;
    if (this.bytes.length > KEPT_BYTES) this.bytes = NOTHING;
  }

  release(): void {
    this.open = false;
    this.bytes = NOTHING;
    this.length = 0;
    this.decoder.release();
    this.list.release();
  }
}

/** Used again for each block. */
const place: { -readonly [Key in keyof BlockPlace]: BlockPlace[Key] } = { offset: 0, firstUs: 0, timeUs: 0 };
