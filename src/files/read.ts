import { closeSync, constants, type Dirent, fstatSync, opendirSync, openSync, readSync } from 'node:fs';
import { count, type ReasonCounts } from '../telemetry/counters.ts';

/*
 * Files that other processes fill or name: /proc/PID/*, and everything below /proc/PID/root. A process without privileges decides how long they
 * are, what kind they are, and how long they take. So each read has a cap, no read needs memory beyond its cap, only regular files are
 * opened where a name may lead elsewhere, and what a cap cost is counted by its reason.
 *
 * A file system may answer never. The caller bounds that: on a thread that can be given up.
 */

/** What the reads of one reader cost. */
export interface Tally {
  /** Bytes read. */
  bytes: number;
  /** What caps and refusals cost, by reason. */
  readonly counts: ReasonCounts;
}

export function newTally(): Tally {
  return { bytes: 0, counts: {} };
}

const CHUNK_BYTES = 64 * 1024;
/** From asm-generic/fcntl.h, as on x86-64 and arm64: names a file without opening it, so that no driver and no other end of a FIFO hears of it. */
const O_PATH = 0o10000000;

/** One for all reads of this thread, none of which runs within another. Zeroed where an environment was in it. */
const chunk = Buffer.alloc(CHUNK_BYTES);

/**
 * Reads the head of a file, for which one system call after the other is made, as /proc wants it.
 * @param reason what a longer file is counted as
 * @returns at most `maxBytes`, in memory of its own; undefined when it cannot be read
 */
export function readHead(path: string, maxBytes: number, tally: Tally, reason: string): Buffer | undefined {
  const parts: Buffer[] = [];
  const isRead = readChunks(path, maxBytes, tally, reason, (bytes) => {
    parts.push(Buffer.from(bytes));
    return true;
  });
  return isRead ? Buffer.concat(parts) : undefined;
}

/** The same as text. */
export function readText(path: string, maxBytes: number, tally: Tally, reason: string): string | undefined {
  return readHead(path, maxBytes, tally, reason)?.toString('utf8');
}

/**
 * Hands a file over in pieces.
 * @param take gets a piece, borrowed for the call; false ends the reading
 * @returns false when the file cannot be read, or not to the end: its process has ended (ESRCH)
 */
export function readChunks(
  path: string,
  maxBytes: number,
  tally: Tally,
  reason: string,
  take: (bytes: Buffer) => boolean,
): boolean {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return false;
  }
  try {
    for (let left = maxBytes; ; ) {
      if (left === 0) {
        if (readSync(descriptor, chunk, 0, 1, null) > 0) count(tally.counts, reason);
        return true;
      }
      const read = readSync(descriptor, chunk, 0, Math.min(CHUNK_BYTES, left), null);
      tally.bytes += read;
      left -= read;
      if (read === 0 || !take(chunk.subarray(0, read))) return true;
    }
  } catch {
    return false;
  } finally {
    closeSync(descriptor);
  }
}

/** Zeroes what the last read has left behind, such as an environment with passwords. */
export function wipeChunk(): void {
  chunk.fill(0);
}

/**
 * Hands a file over line by line, without keeping it.
 * @param maxLineBytes a longer line is passed over, counted as `reason`
 * @param take gets the borrowed bytes that hold the line, and where it lies in them; false ends the reading
 * @returns false when the file cannot be read
 */
export function readLines(
  path: string,
  caps: { maxBytes: number; maxLineBytes: number },
  tally: Tally,
  reason: string,
  take: (bytes: Buffer, start: number, end: number) => boolean,
): boolean {
  /** The beginning of a line that goes on in the next piece. */
  const rest = Buffer.alloc(caps.maxLineBytes);
  let kept = 0;
  let skipping = false;
  let wanted = true;
  const keep = (bytes: Buffer): void => {
    if (skipping || kept + bytes.length > rest.length) {
      if (!skipping) count(tally.counts, reason);
      skipping = true;
      return;
    }
    bytes.copy(rest, kept);
    kept += bytes.length;
  };
  const isRead = readChunks(path, caps.maxBytes, tally, reason, (bytes) => {
    let start = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0 && wanted; end = bytes.indexOf(0x0a, start)) {
      if (kept === 0 && !skipping) {
        wanted = take(bytes, start, end);
      } else {
        keep(bytes.subarray(start, end));
        if (!skipping) wanted = take(rest, 0, kept);
        kept = 0;
        skipping = false;
      }
      start = end + 1;
    }
    if (wanted && start < bytes.length) keep(bytes.subarray(start));
    return wanted;
  });
  if (wanted && kept > 0 && !skipping) take(rest, 0, kept);
  return isRead;
}

/**
 * Opens a regular file that somebody else names. What it is is found out before it is opened: a FIFO or a device never is.
 * @param way may be a link of /proc, such as map_files or exe
 * @returns a descriptor for reading, which the caller closes; undefined when there is no such file, or it is of another kind, which is counted
 */
export function openRegular(way: string, tally: Tally): number | undefined {
  let named: number;
  try {
    named = openSync(way, O_PATH);
  } catch {
    return undefined;
  }
  try {
    if (!fstatSync(named).isFile()) {
      count(tally.counts, 'not_a_regular_file');
      return undefined;
    }
    return openSync(`/proc/self/fd/${named}`, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined;
  } finally {
    closeSync(named);
  }
}

/** Reads of one descriptor that add up to a cap: a file that says it is larger than it may be ends early. */
export class CappedFile {
  /** Something was not read because of the cap on bytes or on time. */
  capped: 'bytes' | 'time' | undefined;
  readonly #fd: number;
  readonly #tally: Tally;
  #left: number;
  readonly #untilMs: number;

  /** @param caps bytes in all, and milliseconds from now on */
  constructor(fd: number, caps: { bytes: number; ms: number }, tally: Tally) {
    this.#fd = fd;
    this.#tally = tally;
    this.#left = caps.bytes;
    this.#untilMs = performance.now() + caps.ms;
  }

  /** Reads into all of `buffer` from `position` of the file. @returns bytes read, less at the end or when it cannot be read, or no more may be */
  readonly readAt = (buffer: Buffer, position: number): number => {
    if (this.capped !== undefined) return 0;
    if (buffer.length > this.#left) this.capped = 'bytes';
    else if (performance.now() > this.#untilMs) this.capped = 'time';
    if (this.capped !== undefined) return 0;
    try {
      const read = readSync(this.#fd, buffer, 0, buffer.length, position);
      this.#left -= read;
      this.#tally.bytes += read;
      return read;
    } catch {
      return 0;
    }
  };
}

/**
 * The entries of a folder, as they come.
 * @param maxEntries of which no more are looked at; a larger folder is counted as `reason`
 * @throws Error of the file system
 */
export function readFolder(
  path: string,
  maxEntries: number,
  tally: Tally,
  reason: string,
  take: (entry: Dirent) => void,
): void {
  const folder = opendirSync(path, { bufferSize: 256 });
  try {
    for (let seen = 0, entry = folder.readSync(); entry !== null; entry = folder.readSync()) {
      if (++seen > maxEntries) {
        count(tally.counts, reason);
        return;
      }
      take(entry);
    }
  } finally {
    folder.closeSync();
  }
}
