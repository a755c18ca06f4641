import { closeSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type OutputFolder, openOutputFolder } from '../files/output-file.ts';
import type { Log } from '../telemetry/log.ts';
import type { Batch } from './batch.ts';
import { lockFolder } from './spool-lock.ts';
import { HEADER_BYTES, Segment } from './spool-segment.ts';

export interface SpoolOptions {
  /** Made when it is not there, for its owner only. One process at a time. */
  readonly folder: string;
  readonly maxBytes: number;
  readonly log: Log;
  /** Spans that were taken, or found at the start, and will not come back:
   *   spool_full     the oldest made room
   *   spool_failed   the disk refused them
   *   spool_damaged  what was read is not what was written
   *   deadline       they were not yet written when the time for shutdown was over */
  readonly onLost: (reason: 'spool_full' | 'spool_failed' | 'spool_damaged' | 'deadline', spans: number) => void;
}

/** Where a batch lies. */
export interface SpoolRecord {
  readonly segment: Segment;
  readonly offset: number;
  readonly spans: number;
}

export interface SpooledBatch extends Batch {
  readonly record: SpoolRecord;
}

const FILE_PATTERN = /^(\d{8})\.spool$/;
/** Numbers have eight digits: room is left for those that come. */
const MAX_NUMBER = 90_000_000;
const MAX_SEGMENT_BYTES = 8 * 1024 * 1024;
/** Bytes that wait for the disk. */
const MAX_PENDING_BYTES = 16 * 1024 * 1024;
/** After the disk refused something it is left alone for this time. */
const REST_MS = 10_000;

interface Pending {
  readonly batch: Batch & { readonly payload: Buffer };
  readonly done: () => void;
}

/**
 * Batches on disk, the oldest first, for outages longer than memory allows. Files of a few MiB hold them; when all together are larger
 * than they may be, the oldest file goes. Nothing here holds up the caller: the disk is waited for by promises only, and what it does not
 * take in time is refused or counted.
 *
 * What was written survives the process. Of what the machine had not brought to the disk when it crashed, nothing is taken for whole.
 */
export class Spool {
  readonly #options: SpoolOptions;
  readonly #segmentBytes: number;
  readonly #folder: OutputFolder;
  readonly #unlock: () => void;
  /** In the order of their numbers; the last may be the one that is written to. */
  readonly #segments: Segment[] = [];
  readonly #pending: Pending[] = [];
  #pendingBytes = 0;
  #pendingSpans = 0;
  #nextNumber = 1;
  #writing: Promise<void> | undefined;
  /** Marks and removals under way. */
  readonly #chores = new Set<Promise<void>>();
  #restUntilMs = 0;
  #closed = false;
  /** Spans that were found at the start. */
  readonly recovered: number;
  /** Bytes that were found and belong to no whole record. */
  readonly damagedBytes: number;

  /** @throws Error that says why the folder cannot be used */
  constructor(options: SpoolOptions) {
    this.#options = options;
    this.#segmentBytes = Math.min(MAX_SEGMENT_BYTES, options.maxBytes / 4);
    this.#folder = openOutputFolder(options.folder, 0o700);
    let unlock = (): void => {};
    try {
      unlock = lockFolder(this.#folder.base);
      this.damagedBytes = this.#find();
    } catch (error) {
      unlock();
      closeSync(this.#folder.fd);
      throw error;
    }
    this.#unlock = unlock;
    this.recovered = this.spans;
  }

  /** Spans on disk and on their way there. */
  get spans(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.spans, this.#pendingSpans);
  }

  /** Bytes of the files. */
  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.size, 0);
  }

  /** Something is there to be taken. */
  get hasMore(): boolean {
    return this.#segments.some((segment) => !segment.isRead);
  }

  /**
   * Writes a batch.
   * @param done the payload is needed no more
   * @returns false: it cannot be taken now
   */
  store(batch: Batch, done: () => void): boolean {
    const { payload, byteLength, spans } = batch;
    if (this.#closed || !Buffer.isBuffer(payload) || performance.now() < this.#restUntilMs) return false;
    if (this.#pendingBytes + byteLength > MAX_PENDING_BYTES) return false;
    this.#pending.push({ batch: { payload, byteLength, spans }, done });
    this.#pendingBytes += byteLength;
    this.#pendingSpans += spans;
    this.#writing ??= this.#write();
    return true;
  }

  /** Takes the oldest batch that was not taken yet; it stays on disk until it is acknowledged. */
  async take(): Promise<SpooledBatch | undefined> {
    for (const segment of [...this.#segments]) {
      while (!segment.isRead && !segment.removed && !this.#closed) {
        try {
          const record = await segment.read();
          if (record === undefined || segment.removed) break;
          const { offset, spans, payload } = record;
          if (payload !== undefined) {
            segment.takenSpans += spans;
            return { payload, spans, byteLength: payload.length, record: { segment, offset, spans } };
          }
          this.#lose(segment, 'spool_damaged', spans);
          await segment.markDone(offset);
        } catch (error) {
          // One that made room meanwhile is counted already.
          if (!segment.removed) this.#giveUp(segment, error);
        }
      }
      this.#tidy(segment);
    }
    return undefined;
  }

  /** A batch that was taken is delivered or given up. */
  acknowledge({ segment, offset, spans }: SpoolRecord): void {
    if (segment.removed) return;
    segment.spans -= spans;
    segment.takenSpans -= spans;
    if (this.#tidy(segment)) return;
    // When that fails the spans may be sent again, which ids make recognisable.
    this.#chore('a delivered batch cannot be marked', segment.markDone(offset));
  }

  /** Brings to disk what waits, within `deadlineMs`. What was taken and not acknowledged is there for the next process. */
  async close(deadlineMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, deadlineMs);
    });
    await Promise.race([this.#writing, timeout]);
    this.#closed = true;
    if (this.#pendingSpans > 0) this.#options.onLost('deadline', this.#pendingSpans);
    this.#pending.length = 0;
    this.#pendingSpans = 0;
    this.#pendingBytes = 0;
    await Promise.race([Promise.all(this.#chores), timeout]);
    for (const segment of this.#segments) this.#chore('a spool file cannot be closed', segment.close());
    await Promise.race([Promise.all(this.#chores), timeout]);
    clearTimeout(timer);
    this.#unlock();
    // What is still under way, past the deadline, keeps it open until the process ends.
    if (this.#chores.size === 0 && this.#writing === undefined) closeSync(this.#folder.fd);
  }

  /** @returns bytes that are of no whole record */
  #find(): number {
    let damagedBytes = 0;
    for (const name of readdirSync(this.#folder.base).sort()) {
      const number = Number(FILE_PATTERN.exec(name)?.[1] ?? 0);
      if (number === 0) continue;
      if (number < MAX_NUMBER) this.#nextNumber = Math.max(this.#nextNumber, number + 1);
      const segment = new Segment(number, join(this.#folder.base, name));
      const damaged = segment.scan();
      if (damaged === undefined) {
        this.#options.log.warn('a file in the spool is not the agent’s own, and is passed over', {
          folder: this.#options.folder,
          file: name,
        });
        continue;
      }
      damagedBytes += damaged;
      if (segment.spans > 0) this.#segments.push(segment);
      else unlinkSync(segment.path);
    }
    return damagedBytes;
  }

  async #write(): Promise<void> {
    for (let next = this.#pending[0]; next !== undefined; next = this.#pending[0]) {
      const { payload, spans, byteLength } = next.batch;
      const segment = this.#segmentFor(HEADER_BYTES + byteLength);
      try {
        await segment.append(payload, spans);
      } catch (error) {
        this.#refused(segment, error);
      }
      // The deadline may have passed meanwhile, and all that waited was counted.
      if (this.#closed) return;
      this.#pending.shift();
      this.#pendingBytes -= byteLength;
      this.#pendingSpans -= spans;
      next.done();
    }
    this.#writing = undefined;
  }

  /** Where a record of that size goes; room is made for it. */
  #segmentFor(bytes: number): Segment {
    while (this.bytes + bytes > this.#options.maxBytes) {
      const oldest = this.#segments[0];
      if (oldest === undefined) break;
      const lost = oldest.spans - oldest.takenSpans;
      if (lost > 0) {
        this.#options.onLost('spool_full', lost);
        this.#options.log.warn('the spool is full; the oldest spans were dropped', { spans: lost });
      }
      this.#remove(oldest);
    }
    const last = this.#segments.at(-1);
    if (last !== undefined && !last.sealed && last.size + bytes <= this.#segmentBytes) return last;
    if (last !== undefined && !last.sealed) this.#seal(last);
    const name = `${String(this.#nextNumber++).padStart(8, '0')}.spool`;
    const segment = new Segment(this.#nextNumber - 1, join(this.#folder.base, name));
    this.#segments.push(segment);
    return segment;
  }

  #seal(segment: Segment): void {
    segment.sealed = true;
    this.#chore('a spool file cannot be closed', segment.closeIdle());
  }

  #refused(segment: Segment, error: unknown): void {
    const [next] = this.#pending;
    if (next === undefined) return;
    this.#options.onLost('spool_failed', next.batch.spans);
    this.#warn('the spool cannot be written to; spans were dropped', error);
    this.#restUntilMs = performance.now() + REST_MS;
    this.#seal(segment);
    if (segment.spans === 0) this.#remove(segment);
  }

  /** A file that cannot be read holds nothing any more. */
  #giveUp(segment: Segment, error: unknown): void {
    this.#warn('a spool file cannot be read; its spans are lost', error);
    const lost = segment.spans - segment.takenSpans;
    if (lost > 0) this.#options.onLost('spool_damaged', lost);
    this.#remove(segment);
  }

  #lose(segment: Segment, reason: 'spool_damaged', spans: number): void {
    segment.spans -= spans;
    this.#options.onLost(reason, spans);
    this.#options.log.warn('a record of the spool is damaged; its spans are lost', { spans });
  }

  /** Removes a file that nothing more is needed of. @returns whether it did */
  #tidy(segment: Segment): boolean {
    if (segment.removed || !segment.isRead || segment.takenSpans > 0) return false;
    // Written to at this moment.
    if (!segment.sealed && this.#writing !== undefined) return false;
    if (segment.spans > 0) {
      // What is neither taken nor to be read: a header that was whole once is not any more.
      this.#lose(segment, 'spool_damaged', segment.spans);
    }
    segment.sealed = true;
    this.#remove(segment);
    return true;
  }

  #remove(segment: Segment): void {
    const at = this.#segments.indexOf(segment);
    if (at >= 0) this.#segments.splice(at, 1);
    this.#chore('a spool file cannot be removed', segment.remove());
  }

  /** @param failure what a failure means */
  #chore(failure: string, work: Promise<void>): void {
    const chore = work.catch((error: unknown) => this.#warn(failure, error)).finally(() => this.#chores.delete(chore));
    this.#chores.add(chore);
  }

  #warn(message: string, error: unknown): void {
    const { code, message: text } = error as NodeJS.ErrnoException;
    this.#options.log.warn(message, { folder: this.#options.folder, reason: code ?? text });
  }
}
