/**
 * One file of the spool: records one after the other, each a batch as it would be sent.
 *
 *   magic "WSp1" | length u32 | spans u32 | CRC-32 of the payload | CRC-32 of the 16 bytes before | state u32 | payload
 *
 * Numbers are little-endian; `state` is 0 until the batch was delivered or given up. A record is written payload first, so that a header
 * stands for a whole one; what a crash of the machine leaves half written does not match its checksums.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { isOwnFile } from '../files/output-file.ts';

export const HEADER_BYTES = 24;
const MAGIC = 0x31705357;
const CHECKED_BYTES = 16;
const STATE_AT = 20;
const DONE = Buffer.from([1, 0, 0, 0]);
/** No request is larger. */
const MAX_PAYLOAD_BYTES = 4 * 1024 * 1024;

export interface RecordHeader {
  readonly payloadBytes: number;
  readonly spans: number;
  readonly payloadCrc: number;
  readonly isDone: boolean;
}

export function encodeHeader(payload: Uint8Array, spans: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(payload.length, 4);
  header.writeUInt32LE(spans, 8);
  header.writeUInt32LE(crc32(payload), 12);
  header.writeUInt32LE(crc32(header.subarray(0, CHECKED_BYTES)), CHECKED_BYTES);
  return header;
}

/** @returns undefined when these bytes are no header */
export function decodeHeader(bytes: Buffer): RecordHeader | undefined {
  if (bytes.length < HEADER_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  if (bytes.readUInt32LE(CHECKED_BYTES) !== crc32(bytes.subarray(0, CHECKED_BYTES))) return undefined;
  const payloadBytes = bytes.readUInt32LE(4);
  if (payloadBytes > MAX_PAYLOAD_BYTES) return undefined;
  return {
    payloadBytes,
    spans: bytes.readUInt32LE(8),
    payloadCrc: bytes.readUInt32LE(12),
    isDone: bytes.readUInt32LE(STATE_AT) !== 0,
  };
}

export interface ReadRecord {
  readonly offset: number;
  readonly spans: number;
  /** Undefined: its checksum is wrong. */
  readonly payload: Buffer | undefined;
}

export class Segment {
  readonly number: number;
  readonly path: string;
  /** Bytes of whole records. */
  size = 0;
  /** Spans that are neither delivered nor given up. */
  spans = 0;
  /** Those of them that are in memory. */
  takenSpans = 0;
  /** No more is written to it. */
  sealed = false;
  removed = false;
  #readAt = 0;
  /** Reads and marks under way. */
  #busy = 0;
  #handle: Promise<FileHandle> | undefined;

  constructor(number: number, path: string) {
    this.number = number;
    this.path = path;
  }

  /** Every record was read. */
  get isRead(): boolean {
    return this.#readAt >= this.size;
  }

  /**
   * Finds the records of a file that an earlier process wrote.
   * @returns the bytes behind the last whole one; undefined when it is no file of ours
   * @throws Error of the file system
   */
  scan(): number | undefined {
    if (!lstatSync(this.path).isFile()) return undefined;
    const fd = openSync(this.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(fd);
      if (!isOwnFile(stat)) return undefined;
      const { size } = stat;
      const bytes = Buffer.alloc(HEADER_BYTES);
      for (;;) {
        const read = readSync(fd, bytes, 0, HEADER_BYTES, this.size);
        const header = decodeHeader(bytes.subarray(0, read));
        if (header === undefined || this.size + HEADER_BYTES + header.payloadBytes > size) break;
        this.size += HEADER_BYTES + header.payloadBytes;
        if (!header.isDone) this.spans += header.spans;
      }
      this.sealed = true;
      return size - this.size;
    } finally {
      closeSync(fd);
    }
  }

  /** @throws Error of the file system; nothing was added then */
  async append(payload: Uint8Array, spans: number): Promise<void> {
    // A new file of ours: what is there already, such as a link that leads elsewhere, is not written to.
    const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
    this.#handle ??= open(this.path, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR, 0o600);
    const handle = await this.#handle;
    const at = this.size;
    try {
      await writeAll(handle, payload, at + HEADER_BYTES);
      await writeAll(handle, encodeHeader(payload, spans), at);
    } catch (error) {
      await handle.truncate(at).catch(() => {});
      throw error;
    }
    this.size = at + HEADER_BYTES + payload.length;
    this.spans += spans;
  }

  /**
   * Takes the next record that is neither delivered nor given up.
   * @returns undefined when there is none
   * @throws Error of the file system
   */
  read(): Promise<ReadRecord | undefined> {
    return this.#use((handle) => this.#readNext(handle));
  }

  /** Notes that a record needs no more sending. A crash may forget it: its spans are then sent again. */
  markDone(offset: number): Promise<void> {
    return this.#use((handle) => writeAll(handle, DONE, offset + STATE_AT));
  }

  /** Of one that is not used at the moment; it is opened again when it is. */
  async closeIdle(): Promise<void> {
    if (this.#busy === 0) await this.close();
  }

  /** What was written is on the disk then. */
  async close(): Promise<void> {
    const opened = this.#handle;
    this.#handle = undefined;
    const handle = await opened;
    if (handle === undefined) return;
    await handle.datasync().catch(() => {});
    await handle.close();
  }

  async remove(): Promise<void> {
    this.removed = true;
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.then((opened) => opened.close()).catch(() => {});
    await unlink(this.path);
  }

  async #readNext(handle: FileHandle): Promise<ReadRecord | undefined> {
    while (!this.isRead) {
      const offset = this.#readAt;
      const header = decodeHeader(await readAll(handle, HEADER_BYTES, offset));
      if (header === undefined) {
        // It was one when the file was scanned, or written.
        this.#readAt = this.size;
        return undefined;
      }
      const { payloadBytes, spans, payloadCrc, isDone } = header;
      this.#readAt = offset + HEADER_BYTES + payloadBytes;
      if (isDone) continue;
      const payload = await readAll(handle, payloadBytes, offset + HEADER_BYTES);
      const isWhole = payload.length === payloadBytes && crc32(payload) === payloadCrc;
      return { offset, spans, payload: isWhole ? payload : undefined };
    }
    return undefined;
  }

  async #use<T>(work: (handle: FileHandle) => Promise<T>): Promise<T> {
    this.#busy++;
    try {
      this.#handle ??= openOwn(this.path);
      return await work(await this.#handle);
    } finally {
      this.#busy--;
    }
  }
}

/** @throws Error when another file has taken its place */
async function openOwn(path: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if (isOwnFile(await handle.stat())) return handle;
  await handle.close();
  throw new Error('another file has taken its place');
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

async function readAll(handle: FileHandle, length: number, position: number): Promise<Buffer> {
  // Of its own memory, which is handed on to a thread.
  const bytes = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
