import { crc32, createInflateRaw, type InflateRaw } from 'node:zlib';

const OUTPUT_BYTES = 256 * 1024;
/** Fed at once: deflate makes at most 1,032 bytes of one, and what comes of a slice is held until it is asked for. */
const SLICE_BYTES = 32 * 1024;
/** Of the file's name and comment in a header; a longer header is none. */
const MAX_HEADER_BYTES = 256 * 1024;

/** RFC 1952 section 2.3.1 */
const GZIP_MAGIC = 0x8b1f;
const DEFLATE = 8;
const FLAG_HEADER_CRC = 2;
const FLAG_EXTRA = 4;
const FLAG_NAME = 8;
const FLAG_COMMENT = 16;
const RESERVED_FLAGS = 0xe0;
const FIXED_HEADER_BYTES = 10;
const TRAILER_BYTES = 8;

/** @param head the first two bytes of a file, or more */
export function isGzip(head: Buffer): boolean {
  return head.length >= 2 && head.readUInt16LE(0) === GZIP_MAGIC;
}

/**
 * Uncompresses what begins like gzip, all its members; anything else passes as it is. All that can be uncompressed is delivered, also of
 * data that is cut, damaged, or followed by something else, which zlib's own streams give up with the error.
 *
 * @param source its parts are borrowed until the next is asked for
 * @param onTrailing called once when bytes that are no gzip stand behind the last member: they are passed over, as gzip(1) does
 * @throws Error with a code `Z_...` for data that is damaged or cut, after all before it was delivered
 */
export async function* decompressed(source: AsyncIterable<Buffer>, onTrailing?: () => void): AsyncIterable<Buffer> {
  const input = new Input(source);
  try {
    await input.fill(2);
    if (isGzip(input.bytes)) yield* members(input, onTrailing);
    else for (; input.bytes.length > 0 || (await input.fill(1)); input.take(input.bytes.length)) yield input.bytes;
  } finally {
    await input.close();
  }
}

/** What was read and not used. */
class Input {
  /** Borrowed from the source, as long as nothing more is asked for. */
  bytes: Buffer = Buffer.alloc(0);
  readonly #iterator: AsyncIterator<Buffer>;

  constructor(source: AsyncIterable<Buffer>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  /** @returns whether so many bytes are there; all that are left when not */
  async fill(length: number): Promise<boolean> {
    while (this.bytes.length < length) {
      const held = this.bytes.length > 0 ? Buffer.from(this.bytes) : undefined;
      const result = await this.#iterator.next();
      if (result.done === true) {
        this.bytes = held ?? this.bytes;
        return false;
      }
      this.bytes = held === undefined ? result.value : Buffer.concat([held, result.value]);
    }
    return true;
  }

  take(length: number): void {
    this.bytes = this.bytes.subarray(length);
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

async function* members(input: Input, onTrailing?: () => void): AsyncIterable<Buffer> {
  for (let isFirst = true; ; isFirst = false) {
    // Tapes and block devices leave zeros behind the last member.
    while (!isFirst && (await input.fill(1)) && input.bytes[0] === 0) input.take(1);
    if (!isFirst && input.bytes.length === 0) return;
    const header = await readHeader(input);
    if (header === 'cut') throw damaged('Z_BUF_ERROR', 'unexpected end of file');
    if (header === 'none') {
      if (isFirst) throw damaged('Z_DATA_ERROR', 'incorrect header check');
      onTrailing?.();
      return;
    }
    yield* member(input);
  }
}

function damaged(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** Takes the header of a member (RFC 1952 section 2.3), if all of it is there. */
async function readHeader(input: Input): Promise<'whole' | 'cut' | 'none'> {
  const isWhole = await input.fill(FIXED_HEADER_BYTES);
  const { bytes } = input;
  if (bytes[0] !== (GZIP_MAGIC & 0xff) || (bytes.length > 1 && bytes[1] !== GZIP_MAGIC >> 8)) return 'none';
  if ((bytes.length > 2 && bytes[2] !== DEFLATE) || (bytes.length > 3 && (bytes[3]! & RESERVED_FLAGS) !== 0))
    return 'none';
  if (!isWhole) return 'cut';
  const flags = bytes[3]!;
  let length = FIXED_HEADER_BYTES;
  if ((flags & FLAG_EXTRA) !== 0) {
    if (!(await input.fill(length + 2))) return 'cut';
    length += 2 + input.bytes.readUInt16LE(length);
  }
  for (const flag of [FLAG_NAME, FLAG_COMMENT]) {
    if ((flags & flag) === 0) continue;
    let end = -1;
    for (let from = length; end < 0; from = input.bytes.length) {
      if (from > MAX_HEADER_BYTES) return 'none';
      if (!(await input.fill(from + 1))) return 'cut';
      end = input.bytes.indexOf(0, from);
    }
    length = end + 1;
  }
  if ((flags & FLAG_HEADER_CRC) !== 0) length += 2;
  if (!(await input.fill(length))) return 'cut';
  input.take(length);
  return 'whole';
}

/** What a member holds, and takes its trailer. */
async function* member(input: Input): AsyncIterable<Buffer> {
  const inflate = new MemberInflater();
  let checksum = 0;
  let size = 0;
  try {
    for (let over = false; !over; ) {
      over = (await input.fill(1)) ? await inflate.write(input) : await inflate.end();
      for (let part = inflate.output.shift(); part !== undefined; part = inflate.output.shift()) {
        checksum = crc32(part, checksum);
        size += part.length;
        yield part;
      }
    }
  } finally {
    inflate.close();
  }
  if (inflate.failure !== undefined) throw inflate.failure;
  if (!(await input.fill(TRAILER_BYTES))) throw damaged('Z_BUF_ERROR', 'unexpected end of file');
  const isWhole = input.bytes.readUInt32LE(0) === checksum && input.bytes.readUInt32LE(4) === size % 2 ** 32;
  if (!isWhole) throw damaged('Z_DATA_ERROR', 'incorrect data check');
  input.take(TRAILER_BYTES);
}

/** Deflated data of which the stream itself says where it ends. */
class MemberInflater {
  /** By events, because an iterator over the stream gives up what it has not yet delivered when the stream fails. */
  readonly output: Buffer[] = [];
  failure: Error | undefined = undefined;
  readonly #stream: InflateRaw = createInflateRaw({ chunkSize: OUTPUT_BYTES });
  #settle: ((over: boolean) => void) | undefined;

  constructor() {
    this.#stream.on('data', (part: Buffer) => this.output.push(part));
    this.#stream.on('end', () => this.#settle?.(true));
    this.#stream.on('error', (error) => {
      this.failure = error;
      this.#settle?.(true);
    });
  }

  /** Takes a slice of what is there. @returns whether the data ended, or failed */
  write(input: Input): Promise<boolean> {
    // Streams read ahead: what they are given must be theirs.
    const slice = Buffer.from(input.bytes.subarray(0, SLICE_BYTES));
    const before = this.#stream.bytesWritten;
    return new Promise((resolve) => {
      this.#settle = (over) => {
        this.#settle = undefined;
        input.take(this.#stream.bytesWritten - before);
        resolve(over);
      };
      // Not called when the data ends before the slice does; of a failure the event says more.
      this.#stream.write(slice, (error) => {
        if (error === null || error === undefined) this.#settle?.(false);
      });
    });
  }

  /** There is no more. */
  end(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#stream.end();
    });
  }

  close(): void {
    this.#settle = undefined;
    this.#stream.destroy();
  }
}
