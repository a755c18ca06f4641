import { open } from 'node:fs/promises';
import { defaultLimits } from '../config/limits.ts';
import { whyNot } from '../config/system-error.ts';
import type { FragmentLimits } from '../link/fragments.ts';
import { FrameReader, type FrameSink } from '../link/frames.ts';
import { BLOCK_SECTION_HEADER, SECRETS_TLS_KEY_LOG } from '../pcapng/blocks.ts';
import { isPcap, PcapReader } from '../pcapng/pcap.ts';
import { CaptureFormatError, type FileHandler, type FormatReader, PcapngReader } from '../pcapng/reader.ts';
import { identityClock } from '../telemetry/clock.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import { decompressed } from './gzip.ts';
import { DIRECTION_UNKNOWN, HEADER, PACKET, RECORD_PACKET, type SocketRecord } from './records.ts';
import type { CaptureCapabilities, CaptureSource, OnChunk, SourceClock } from './source.ts';

export interface ReadCaptureOptions {
  /** Secrets that the file itself holds (NSS key log lines), in their place between the packets. Borrowed. */
  onSecrets: (nssKeyLog: Buffer) => void;
  /** Bytes of the largest block or packet that is believed. */
  maxBlockBytes?: number;
  /** Bytes of a chunk. */
  chunkBytes?: number;
  /** Counts what is ignored, as the result does, also when the file cannot be read to its end. */
  ignored?: ReasonCounts;
  /** Of IP fragments that wait for the others of their packet. */
  fragments?: FragmentLimits;
  /** Somebody may be writing what is read: each part is delivered as it comes, not a chunk when it is full. */
  live?: boolean;
  /** Called when bytes behind the end of compressed data were passed over. */
  onTrailing?: () => void;
  /** What to call the source in errors, when it is not a path. */
  name?: string;
}

export interface ReadCaptureResult {
  format: 'pcap' | 'pcapng';
  /** Frames in the file. */
  packets: number;
  /** Of these, frames and fragments without an IP packet that can be used, by reason. */
  ignored: ReasonCounts;
  /** Bytes read, uncompressed. */
  bytes: number;
}

const DEFAULT_CHUNK_BYTES = 512 * 1024;
const DEFAULT_MAX_BLOCK_BYTES = 64 * 1024 * 1024;
const FILE_READ_BYTES = 256 * 1024;

/**
 * Reads a capture file, pcap or pcapng, maybe compressed by gzip (recognised by its content), as chunks of packet records: the same
 * layout as the kernel's, with cookie 0, direction unknown and Unix time. Memory stays bounded whatever the file's size.
 *
 * @param source a path, or the bytes; each part is borrowed until the next is asked for
 * @param onChunk gets chunk[0..length), valid during the call only
 * @throws an Error that names the file, the byte offset (uncompressed) and what is wrong, after all before it was delivered
 */
export async function readCaptureFile(
  source: AsyncIterable<Buffer> | string,
  onChunk: OnChunk,
  options: ReadCaptureOptions,
): Promise<ReadCaptureResult> {
  return readInto(new CaptureFile(onChunk, options), source, options);
}

/** See readCaptureFile(). */
async function readInto(
  file: CaptureFile,
  source: AsyncIterable<Buffer> | string,
  options: ReadCaptureOptions,
): Promise<ReadCaptureResult> {
  const name = options.name ?? (typeof source === 'string' ? source : 'standard input');
  const bytes = typeof source === 'string' ? fileBytes(source) : source;
  try {
    for await (const part of decompressed(bytes, options.onTrailing)) {
      file.push(part);
      if (options.live === true) file.flush();
    }
    return file.finish();
  } catch (error) {
    throw new Error(`${name}: ${describe(error, file.offset)}`, { cause: error });
  } finally {
    file.close();
  }
}

/** A capture file as a source: packets and nothing else, at the speed at which they can be taken. */
export class FileCapture implements CaptureSource {
  readonly capabilities: CaptureCapabilities = { sockets: false, processes: false, mute: false, ignore: false };
  /** Its time is that of its packets, and stands still between them. */
  readonly clock: SourceClock = { ...identityClock, nowUs: () => this.#file?.deliveredUs ?? 0 };
  /** What it holds itself comes by `onSecrets`, in its place between the packets. */
  readonly secretRingFd = undefined;
  readonly #source: AsyncIterable<Buffer> | string;
  readonly #options: ReadCaptureOptions;
  readonly #end = Promise.withResolvers<ReadCaptureResult | undefined>();
  #file: CaptureFile | undefined;
  #stopped = false;

  /** @param source see readCaptureFile() */
  constructor(source: AsyncIterable<Buffer> | string, options: ReadCaptureOptions) {
    this.#source = source;
    this.#options = { ...options, name: options.name ?? (typeof source === 'string' ? source : 'standard input') };
  }

  /** What was read; undefined when it was stopped before the end. Rejects when the file cannot be read to its end. */
  get finished(): Promise<ReadCaptureResult | undefined> {
    return this.#end.promise;
  }

  start(onChunk: OnChunk): void {
    if (this.#file !== undefined) throw new Error('the file is being read already');
    this.#file = new CaptureFile(onChunk, this.#options);
    readInto(this.#file, this.#parts(), this.#options).then(this.#end.resolve, (error) => {
      // What is cut off by us is not damaged.
      if (this.#stopped) this.#end.resolve(undefined);
      else this.#end.reject(error);
    });
  }

  scanSockets(): SocketRecord[] {
    return [];
  }

  mute(): void {}
  ignoreListener(): void {}
  ignoreCgroup(): void {}

  /** A file loses nothing: what it holds that cannot be used is in `ignored`. */
  lost(): ReasonCounts {
    return {};
  }

  rings(): undefined {
    return undefined;
  }

  /** Reads no further part. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#file === undefined) this.#end.resolve(undefined);
    await this.#end.promise.catch(() => {});
  }

  async *#parts(): AsyncIterable<Buffer> {
    for await (const part of typeof this.#source === 'string' ? fileBytes(this.#source) : this.#source) {
      if (this.#stopped) return;
      yield part;
    }
  }
}

function describe(error: unknown, offset: number): string {
  if (error instanceof CaptureFormatError) return error.message;
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? String(error.code) : '';
  return code.startsWith('Z_') ? `after byte ${offset}: damaged gzip data (${error.message})` : whyNot(error, 'read');
}

/**
 * The bytes of a file, each part in the same buffer: valid until the next is asked for. A stream would make a buffer for every read, and
 * such buffers make V8 trace its heap ever so often.
 *
 * @throws Error of the file system
 */
export async function* fileBytes(path: string): AsyncIterable<Buffer> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafeSlow(FILE_READ_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** Cuts the bytes into what the format's reader wants, and its packets into records. */
class CaptureFile implements FileHandler, FrameSink {
  /** Bytes of the file used so far. */
  offset = 0;
  private readonly options: ReadCaptureOptions;
  private readonly chunks: RecordChunks;
  private readonly frames: FrameReader;
  private readonly ignoredFrames: ReasonCounts;
  private reader: FormatReader | undefined = undefined;
  /** One buffer for the whole file: what was read and not used is waiting[0..waitingBytes). */
  private waiting = Buffer.alloc(0);
  private waitingBytes = 0;
  private packets = 0;
  private lastUs = 0;

  constructor(onChunk: (chunk: Buffer, length: number) => void, options: ReadCaptureOptions) {
    this.options = options;
    this.chunks = new RecordChunks(onChunk, options.chunkBytes ?? DEFAULT_CHUNK_BYTES);
    this.frames = new FrameReader(options.fragments ?? defaultLimits, this);
    this.ignoredFrames = options.ignored ?? {};
  }

  push(part: Buffer): void {
    this.makeRoom(part.length);
    this.waitingBytes += part.copy(this.waiting, this.waitingBytes);
    if (this.waitingBytes < (this.reader?.wanted ?? 12)) return;
    const bytes = this.waiting.subarray(0, this.waitingBytes);
    this.reader ??= this.recognise(bytes);
    const used = this.reader.read(bytes, this.offset, this);
    this.offset += used;
    this.waiting.copyWithin(0, used, this.waitingBytes);
    this.waitingBytes -= used;
  }

  /** @throws CaptureFormatError when the file is not whole */
  finish(): ReadCaptureResult {
    if (this.reader === undefined) {
      throw new CaptureFormatError(0, this.waitingBytes === 0 ? 'the file is empty' : 'the file is too short');
    }
    // A file whose header is all there and which holds nothing is whole.
    if (this.waitingBytes > 0) {
      const { unit, wanted } = this.reader;
      throw new CaptureFormatError(
        this.offset,
        `the file ends inside a ${unit}: ${this.waitingBytes} of at least ${wanted} bytes are there`,
      );
    }
    const format = this.reader instanceof PcapReader ? 'pcap' : 'pcapng';
    return { format, packets: this.packets, ignored: this.ignoredFrames, bytes: this.offset };
  }

  /** Time of the last packet that was delivered. */
  get deliveredUs(): number {
    return this.chunks.deliveredUs;
  }

  flush(): void {
    this.chunks.flush();
  }

  /** Delivers what is there, and counts what will never be whole. */
  close(): void {
    this.frames.finish();
    this.chunks.flush();
  }

  frame(linkType: number, timeUs: number, bytes: Buffer, start: number, end: number, originalLength: number): void {
    this.packets++;
    if (!Number.isNaN(timeUs)) this.lastUs = timeUs;
    this.frames.frame(linkType, this.lastUs, bytes, start, end, originalLength);
  }

  packet(timeUs: number, bytes: Buffer, start: number, end: number, length: number): void {
    this.chunks.add(timeUs, bytes, start, end, length);
  }

  ignored(reason: string, n: number): void {
    count(this.ignoredFrames, reason, n);
  }

  secrets(type: number, bytes: Buffer): void {
    if (type !== SECRETS_TLS_KEY_LOG) return;
    this.chunks.flush();
    this.options.onSecrets(bytes);
  }

  private makeRoom(bytes: number): void {
    const needed = this.waitingBytes + bytes;
    if (needed <= this.waiting.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.waiting.length));
    this.waiting.copy(larger, 0, 0, this.waitingBytes);
    this.waiting = larger;
  }

  private recognise(bytes: Buffer): FormatReader {
    const max = this.options.maxBlockBytes ?? DEFAULT_MAX_BLOCK_BYTES;
    if (bytes.readUInt32LE(0) === BLOCK_SECTION_HEADER) return new PcapngReader(max);
    if (isPcap(bytes)) return new PcapReader(max);
    throw new CaptureFormatError(0, `neither pcap nor pcapng: the file begins with ${bytes.toString('hex', 0, 4)}`);
  }
}

/** Packet records in a reused buffer. */
class RecordChunks {
  /** Time of the last packet of what was delivered. */
  deliveredUs = 0;
  private lastUs = 0;
  private readonly onChunk: (chunk: Buffer, length: number) => void;
  private readonly chunkBytes: number;
  private chunk: Buffer;
  /** The same memory: records begin at multiples of 8. */
  private words: Uint32Array;
  private length = 0;

  constructor(onChunk: (chunk: Buffer, length: number) => void, chunkBytes: number) {
    this.onChunk = onChunk;
    this.chunkBytes = chunkBytes;
    this.chunk = Buffer.allocUnsafeSlow(chunkBytes & ~7);
    this.words = wordsOf(this.chunk);
  }

  add(timeUs: number, bytes: Buffer, start: number, end: number, packetLength: number): void {
    const captured = end - start;
    const recordLength = (PACKET.size + captured + 7) & ~7;
    if (recordLength > this.chunk.length - this.length) {
      this.flush();
      if (recordLength > this.chunk.length) this.allocate(recordLength);
    }
    const { words } = this;
    const word = this.length >> 2;
    words.fill(0, word, word + PACKET.size / 4);
    words[word + HEADER.length / 4] = recordLength;
    words[word + HEADER.type / 4] = RECORD_PACKET; // its flags, the upper half, are 0
    writeTime(words, word + HEADER.timeNs / 4, timeUs);
    words[word + PACKET.packetLength / 4] = packetLength;
    words[word + PACKET.captured / 4] = captured;
    words[word + PACKET.direction / 4] = DIRECTION_UNKNOWN;
    bytes.copy(this.chunk, this.length + PACKET.size, start, end);
    this.length += recordLength;
    this.lastUs = timeUs;
  }

  flush(): void {
    const { length } = this;
    this.length = 0;
    if (length > 0) this.onChunk(this.chunk, length);
    this.deliveredUs = this.lastUs;
    if (this.chunk.length > this.chunkBytes) this.allocate(this.chunkBytes & ~7);
  }

  private allocate(bytes: number): void {
    this.chunk = Buffer.allocUnsafeSlow(bytes);
    this.words = wordsOf(this.chunk);
  }
}

function wordsOf(chunk: Buffer): Uint32Array {
  return new Uint32Array(chunk.buffer, chunk.byteOffset, chunk.length >> 2);
}

/** 64 bits of nanoseconds, in two halves that are both exact: microseconds are below 2^53. Little-endian, as is the machine. */
function writeTime(words: Uint32Array, at: number, timeUs: number): void {
  const wholeUs = Math.min(Math.max(0, Math.floor(timeUs)), Number.MAX_SAFE_INTEGER);
  const restNs = wholeUs === Number.MAX_SAFE_INTEGER ? 0 : Math.max(0, Math.round((timeUs - wholeUs) * 1000));
  const high = Math.floor(wholeUs / 0x1_0000_0000);
  const low = (wholeUs % 0x1_0000_0000) * 1000 + restNs;
  words[at] = low % 0x1_0000_0000;
  words[at + 1] = high * 1000 + Math.floor(low / 0x1_0000_0000);
}
