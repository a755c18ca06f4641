import { type Direction, type EndReason, FROM_CLIENT } from '../../flow/connection.ts';
import { bufferCost } from '../../memory/cost.ts';
import { BlockAssembler } from './block.ts';
import type { Conversation } from './conversation.ts';
import {
  CONTINUATION,
  DATA,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FLAG_PADDED,
  FRAME_HEADER_BYTES,
  GOAWAY,
  HEADERS,
  INITIAL_FRAME_BYTES,
  isConnectionError,
  isPlausible,
  PREFACE,
  PUSH_PROMISE,
  RST_STREAM,
  SETTINGS,
  SETTINGS_MAX_FRAME_SIZE,
  streamIdAt,
  uint24At,
  uint32At,
} from './frames.ts';
import type { FieldNames } from './names.ts';
import { Resync } from './resync.ts';
import type { Stream } from './stream.ts';

/** The client's connection preface. */
const START = 0;
/** Between frames, or within a frame's header. */
const HEADER = 1;
/** Within a payload that is read once it is whole. */
const GATHER = 2;
/** Within the payload of DATA. */
const CONTENT = 3;
/** Within a payload that is of no interest. */
const SKIP = 4;
/** The place in the stream is not known. */
const LOST = 5;
const ENDED = 6;

const NOTHING = Buffer.alloc(0);
/** A buffer that grew beyond this is not kept. */
const KEPT_BYTES = 16_384;

/** One direction: frames, one after the other. layer.ts says what leads from one state to the other. */
export class FrameReader {
  /** The largest payload that this end may send: what the other end's SETTINGS_MAX_FRAME_SIZE allows. */
  maxFrameBytes = INITIAL_FRAME_BYTES;
  /** The other direction: what SETTINGS say is about its frames. */
  peer: FrameReader | undefined = undefined;
  private readonly direction: Direction;
  private readonly conversation: Conversation;
  private readonly block: BlockAssembler;
  private readonly resync: Resync;
  private readonly maxGatheredBytes: number;
  private state: number;
  /** Bytes of the stream so far, lost ones included. */
  private streamBytes: number;
  /** What is there of the preface, or of a header that is cut. */
  private headBytes = 0;
  private readonly head = Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES);
  /** After a hole within a payload the next header is looked at twice. */
  private doubtful = false;
  /** Nothing was read yet since the place was found again. */
  private afterLoss = false;

  private type = 0;
  private flags = 0;
  private streamId = 0;
  private length = 0;
  /** Bytes of the payload that are still to come. */
  private remaining = 0;
  private frameOffset = 0;
  private frameFirstUs = 0;
  /** DATA: padding at the end of the payload; the octet that tells it is still to come. */
  private padding = 0;
  private paddingUnknown = false;
  private stream: Stream | undefined = undefined;
  private gathered = NOTHING;

  /**
   * @param offset bytes of the stream that went before
   * @param joined HTTP/2 began before that
   */
  constructor(direction: Direction, conversation: Conversation, names: FieldNames, offset: number, joined: boolean) {
    const { limits } = conversation.context;
    this.direction = direction;
    this.conversation = conversation;
    this.block = new BlockAssembler(direction, conversation, names);
    this.resync = new Resync(direction);
    this.maxGatheredBytes = limits.httpHeaderBytes;
    this.streamBytes = offset;
    this.state = LOST;
    if (joined) this.block.lose();
    else this.state = direction === FROM_CLIENT ? START : HEADER;
  }

  /** Bytes held between calls, of what grows with its input. */
  get heldBytes(): number {
    return this.gathered.length + this.block.heldBytes;
  }

  /** The same with what it costs (memory/cost.ts). */
  get cost(): number {
    return bufferCost(this.gathered) + this.block.cost;
  }

  get inStep(): boolean {
    return this.state !== LOST;
  }

  data(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    this.streamBytes += end - start;
    if (this.state !== LOST) {
      this.consume(bytes, start, end, timeUs, firstUs);
      return;
    }
    this.search(bytes, start, end, timeUs, firstUs);
  }

  /** bytes[..end) reach up to streamBytes. */
  private consume(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const base = this.streamBytes - end;
    let position = start;
    while (position < end) {
      switch (this.state) {
        case HEADER:
          position = this.header(bytes, position, end, base, timeUs, firstUs);
          break;
        case CONTENT:
          position = this.content(bytes, position, end, timeUs, firstUs);
          break;
        case GATHER:
          position = this.gather(bytes, position, end, timeUs);
          break;
        case SKIP: {
          const taken = Math.min(this.remaining, end - position);
          this.remaining -= taken;
          position += taken;
          if (this.remaining === 0) this.state = HEADER;
          break;
        }
        case START:
          position = this.preface(bytes, position, end, timeUs);
          break;
        case LOST:
          this.search(bytes, position, end, timeUs, firstUs);
          return;
        default:
          return;
      }
    }
  }

  private search(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): void {
    const { resync } = this;
    const offset = this.streamBytes - (end - start);
    const at = resync.look(bytes, start, end, offset, this.maxFrameBytes, this.conversation.lastId);
    if (at < 0) return;
    this.state = HEADER;
    this.headBytes = 0;
    this.afterLoss = true;
    const all = resync.bytes;
    resync.letGo();
    this.consume(all, at, all === bytes ? end : all.length, timeUs, firstUs);
  }

  private preface(bytes: Buffer, start: number, end: number, timeUs: number): number {
    let position = start;
    while (position < end && this.headBytes < PREFACE.length) {
      if (bytes[position] !== PREFACE[this.headBytes]) {
        this.fail(timeUs);
        return position;
      }
      position++;
      this.headBytes++;
    }
    if (this.headBytes === PREFACE.length) {
      this.headBytes = 0;
      this.state = HEADER;
    }
    return position;
  }

  private header(bytes: Buffer, start: number, end: number, base: number, timeUs: number, firstUs: number): number {
    if (this.headBytes === 0) {
      this.frameFirstUs = firstUs;
      this.frameOffset = base + start;
      if (end - start >= FRAME_HEADER_BYTES) {
        return this.frame(bytes, start, bytes, start + FRAME_HEADER_BYTES, end, timeUs);
      }
    }
    const taken = Math.min(FRAME_HEADER_BYTES - this.headBytes, end - start);
    bytes.copy(this.head, this.headBytes, start, start + taken);
    this.headBytes += taken;
    if (this.headBytes < FRAME_HEADER_BYTES) return end;
    this.headBytes = 0;
    return this.frame(this.head, 0, bytes, start + taken, end, timeUs);
  }

  /**
   * A header is whole: the frame's payload is read at once when it is there.
   *
   * @returns the position behind what was read
   */
  private frame(head: Buffer, at: number, bytes: Buffer, start: number, end: number, timeUs: number): number {
    const length = uint24At(head, at);
    const type = head[at + 3]!;
    this.length = length;
    this.type = type;
    this.flags = head[at + 4]!;
    this.streamId = streamIdAt(head, at + 5);
    if (!this.acceptable(head, at)) {
      this.fail(timeUs);
      return start;
    }
    this.remaining = length;
    if (type === DATA) {
      this.beginContent(timeUs);
      return start;
    }
    if (!isRead(type) || (type === CONTINUATION && !this.block.open)) {
      this.state = length === 0 ? HEADER : SKIP;
      return start;
    }
    if (end - start >= length) {
      this.state = HEADER;
      this.payload(bytes, start, start + length, timeUs);
      return start + length;
    }
    if (length > this.maxGatheredBytes) {
      this.block.tooLong(type, this.streamId, this.flags, this.frameOffset, this.frameFirstUs, timeUs);
      this.state = SKIP;
      return start;
    }
    if (this.gathered.length < length) this.gathered = Buffer.allocUnsafeSlow(length);
    this.state = GATHER;
    return start;
  }

  private acceptable(head: Buffer, at: number): boolean {
    const { type, length, streamId } = this;
    if (this.doubtful && !isPlausible(head, at, FRAME_HEADER_BYTES, this.direction, this.maxFrameBytes)) return false;
    this.doubtful = false;
    if (isConnectionError(type, length, streamId, this.maxFrameBytes)) return false;
    // Section 8.4: a client cannot push.
    if (type === PUSH_PROMISE && this.direction === FROM_CLIENT) return false;
    // Section 6.10: nothing may come between the frames of a header block.
    if (this.block.open) return type === CONTINUATION && streamId === this.block.streamId;
    // The rest of a block whose beginning was not read.
    if (type === CONTINUATION) return this.afterLoss;
    this.afterLoss = false;
    return true;
  }

  private gather(bytes: Buffer, start: number, end: number, timeUs: number): number {
    const taken = Math.min(this.remaining, end - start);
    bytes.copy(this.gathered, this.length - this.remaining, start, start + taken);
    this.remaining -= taken;
    if (this.remaining === 0) {
      this.state = HEADER;
      const { gathered, length } = this;
      if (length > KEPT_BYTES) this.gathered = NOTHING;
      this.payload(gathered, 0, length, timeUs);
    }
    return start + taken;
  }

  /** A whole payload of a frame that is read. */
  private payload(bytes: Buffer, start: number, end: number, timeUs: number): void {
    const { conversation, streamId, flags } = this;
    switch (this.type) {
      case HEADERS:
      case PUSH_PROMISE:
        if (
          !this.block.begin(this.type, streamId, flags, bytes, start, end, this.frameOffset, this.frameFirstUs, timeUs)
        ) {
          this.fail(timeUs);
        }
        break;
      case CONTINUATION:
        this.block.add(flags, bytes, start, end, timeUs);
        break;
      case RST_STREAM:
        conversation.reset(streamId, uint32At(bytes, start), timeUs);
        break;
      case GOAWAY:
        conversation.goAway(this.direction, streamIdAt(bytes, start), uint32At(bytes, start + 4), timeUs);
        break;
      case SETTINGS:
        if ((flags & FLAG_ACK) === 0) this.settings(bytes, start, end);
        break;
    }
  }

  /** Section 6.5. The size of HPACK's table comes from its encoder, within the header blocks. */
  private settings(bytes: Buffer, start: number, end: number): void {
    for (let at = start; at + 6 <= end; at += 6) {
      if ((bytes[at]! << 8) + bytes[at + 1]! !== SETTINGS_MAX_FRAME_SIZE || this.peer === undefined) continue;
      // Frames that were sent before the other end knew of a lower value may be on their way.
      this.peer.maxFrameBytes = Math.max(this.peer.maxFrameBytes, Math.min(uint32At(bytes, at + 2), 0xff_ffff));
    }
  }

  private beginContent(timeUs: number): void {
    this.stream = this.conversation.stream(this.streamId);
    this.paddingUnknown = (this.flags & FLAG_PADDED) !== 0;
    this.padding = 0;
    this.state = CONTENT;
    if (this.remaining === 0) this.endContent(timeUs);
  }

  private content(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): number {
    let position = start;
    if (this.paddingUnknown) {
      this.paddingUnknown = false;
      this.remaining--;
      this.padding = bytes[position++]!;
      // Section 6.1.
      if (this.padding > this.remaining) {
        this.fail(timeUs);
        return position;
      }
    }
    const { stream } = this;
    const content = Math.min(this.remaining - this.padding, end - position);
    if (content > 0) {
      if (stream !== undefined && !stream.over) {
        this.conversation.data(stream, this.direction, content, timeUs, firstUs);
        stream.observer?.data(this.direction, bytes, position, position + content, timeUs, firstUs);
      }
      this.remaining -= content;
      position += content;
    }
    const padding = Math.min(this.remaining, end - position, this.padding);
    this.remaining -= padding;
    this.padding -= padding;
    if (this.remaining === 0) this.endContent(timeUs);
    return position + padding;
  }

  private endContent(timeUs: number): void {
    this.state = HEADER;
    const { stream } = this;
    this.stream = undefined;
    if (stream === undefined || stream.over) return;
    // An empty frame is a sign of life, too.
    this.conversation.data(stream, this.direction, 0, timeUs, this.frameFirstUs);
    if ((this.flags & FLAG_END_STREAM) === 0) return;
    if (this.direction === FROM_CLIENT) this.conversation.requestEnded(stream, timeUs);
    else this.conversation.responseEnded(stream, timeUs);
  }

  gap(length: number, timeUs: number): void {
    this.streamBytes += length;
    if (this.state === ENDED) return;
    if (this.state === SKIP && length <= this.remaining) {
      this.remaining -= length;
      if (this.remaining === 0) this.state = HEADER;
      this.doubtful = true;
    } else if (this.state === CONTENT) this.contentGap(length, timeUs);
    else this.lose(timeUs);
  }

  /** Of content only the length matters, which the frame has. */
  private contentGap(length: number, timeUs: number): void {
    const { stream } = this;
    let content = Math.max(0, Math.min(length, this.remaining - this.padding));
    if (this.paddingUnknown) {
      // How much of it is content is not known.
      content = 0;
      if (stream !== undefined) stream.damage ??= 'gap';
    }
    if (content > 0 && stream !== undefined && !stream.over) {
      this.conversation.data(stream, this.direction, content, timeUs, timeUs);
      stream.observer?.gap(this.direction, content, timeUs);
    }
    const beyond = length > this.remaining;
    this.remaining -= Math.min(length, this.remaining);
    this.padding = this.paddingUnknown ? this.remaining : Math.min(this.padding, this.remaining);
    this.paddingUnknown = false;
    if (this.remaining === 0) this.endContent(timeUs);
    if (beyond) this.lose(timeUs);
    else this.doubtful = true;
  }

  /** What stands here is no HTTP/2, or an error that ends the connection for its peers. */
  private fail(timeUs: number): void {
    // Behind a hole it may have been read from the wrong place.
    this.lose(timeUs, this.conversation.hasLost(this.direction) ? 'gap' : 'protocol_error');
    this.conversation.parseError(timeUs);
  }

  private lose(timeUs: number, reason: 'gap' | 'protocol_error' = 'gap'): void {
    if (this.state === GATHER) this.gatheredPart(timeUs);
    this.state = LOST;
    this.headBytes = 0;
    this.doubtful = false;
    this.stream = undefined;
    this.block.cut(reason, timeUs);
    this.block.lose();
    this.resync.begin();
    this.conversation.lost(this.direction, timeUs, reason);
  }

  /** The first part of a frame whose rest is lost: the fields in it are known. */
  private gatheredPart(timeUs: number): void {
    const { type, streamId, block, gathered } = this;
    const flags = this.flags & ~FLAG_END_HEADERS;
    const end = this.length - this.remaining;
    if (type === CONTINUATION) block.add(flags, gathered, 0, end, timeUs);
    else if (type === HEADERS && (flags & FLAG_PADDED) === 0) {
      block.begin(type, streamId, flags, gathered, 0, end, this.frameOffset, this.frameFirstUs, timeUs);
    }
  }

  end(reason: EndReason, timeUs: number): void {
    if (this.state === ENDED) return;
    this.state = ENDED;
    this.block.release();
    this.conversation.ended(this.direction, reason, timeUs);
  }

  release(): void {
    this.state = ENDED;
    this.gathered = NOTHING;
    this.stream = undefined;
    this.block.release();
  }
}

/** The frames that say something of an exchange. All others, and unknown ones, are passed over (section 4.1). */
function isRead(type: number): boolean {
  switch (type) {
    case HEADERS:
    case RST_STREAM:
    case SETTINGS:
    case PUSH_PROMISE:
    case GOAWAY:
    case CONTINUATION:
      return true;
    default:
      return false;
  }
}
