import { closeSync, constants, fstatSync, openSync, write } from 'node:fs';
import { isatty } from 'node:tty';
import { whyNot } from '../config/system-error.ts';
import { openOutputFile } from '../files/output-file.ts';
import { count, type Deliveries } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import type { OutputState } from './output.ts';

/** `reader_gone`: the reader of the pipe has gone, which is an end and no failure. `write_failed`: the file system said no. */
export type WhyBroken = 'reader_gone' | 'write_failed';

export interface LineWriterOptions {
  /** As in the statistics. */
  readonly name: string;
  /** A file's path, which is overwritten; undefined: standard output. */
  readonly path: string | undefined;
  /** Where spans are counted: exported once their line is written. */
  readonly deliveries: Deliveries;
  readonly log: Log;
  /** Called once when no more can be written. */
  readonly onBroken?: ((why: WhyBroken) => void) | undefined;
  /** Bytes that may wait; what comes on top is dropped. */
  readonly maxBytes?: number;
  /** For tests: a descriptor instead of a path; it is not closed. */
  readonly fd?: number;
}

const DEFAULT_MAX_BYTES = 32 * 1024 * 1024;
/** A source that can wait does so while more waits. */
const HIGH_WATER_BYTES = 1024 * 1024;
const RETRY_MS = 2;

interface Line {
  readonly text: string;
  readonly spans: number;
}

/**
 * Writes lines to a file or to standard output without ever holding up the caller: what a slow reader does not take waits, within a
 * bound, and is dropped and counted beyond it.
 *   output_full   too much waited
 *   write_failed  the file system said no; nothing more is written then
 *   reader_gone   the reader of the pipe has gone; nothing more is written then
 *   deadline      not written when the time for shutdown was over
 */
export class LineWriter {
  private readonly options: LineWriterOptions;
  private readonly maxBytes: number;
  private readonly fd: number;
  private readonly closes: boolean;
  private lines: Line[] = [];
  private waitingBytes = 0;
  /** The lines of the write under way, its bytes, and how many of them were taken. */
  private current: readonly Line[] = [];
  private bytes: Buffer = Buffer.alloc(0);
  private written = 0;
  private busy = false;
  private broken = false;
  private whyBroken: WhyBroken = 'write_failed';
  private ended = false;
  private closed = false;
  private readonly waiting: (() => void)[] = [];
  private idle: (() => void) | undefined;

  /** @throws Error when the file cannot be opened */
  constructor(options: LineWriterOptions) {
    this.options = options;
    this.maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    if (options.fd !== undefined) {
      this.fd = options.fd;
      this.closes = false;
    } else if (options.path !== undefined) {
      this.fd = openOutputFile(options.path, { mode: 0o666, nonBlocking: true });
      this.closes = true;
    } else {
      const own = nonBlockingStandardOutput();
      this.fd = own ?? 1;
      this.closes = own !== undefined;
    }
  }

  /** @param text whole lines, each with its line feed */
  write(text: string, spans: number): void {
    if (this.broken || this.ended) {
      this.drop(this.ended ? 'shutdown' : this.whyBroken, spans);
      return;
    }
    // At most three bytes for each UTF-16 unit; nearly always one.
    if (this.waitingBytes + text.length > this.maxBytes) {
      this.drop('output_full', spans);
      this.options.log.warn('the reader of the output is too slow; lines were dropped');
      return;
    }
    this.lines.push({ text, spans });
    this.waitingBytes += text.length;
    if (!this.busy) {
      this.busy = true;
      // What comes in the same turn goes in one write.
      setImmediate(() => this.next());
    }
  }

  ready(): Promise<void> | undefined {
    if (this.broken || this.waitingBytes <= HIGH_WATER_BYTES) return undefined;
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  get heldBytes(): number {
    return this.waitingBytes;
  }

  state(): OutputState {
    let queueSpans = 0;
    for (const line of this.lines) queueSpans += line.spans;
    return {
      name: this.options.name,
      type: 'line_writer',
      queueSpans,
      queueBytes: this.heldBytes,
      queueSpansLimit: undefined,
      queueBytesLimit: this.maxBytes,
      inFlight: this.current.length > 0 ? 1 : 0,
      inFlightSpans: 0,
      retries: 0,
      lastExportMs: undefined,
      durations: new Map(),
      spoolSpans: 0,
      spoolBytes: 0,
      spoolRecovered: 0,
      spoolDamagedBytes: 0,
      exported: this.options.deliveries.exported,
      dropped: this.options.deliveries.dropped,
      rejections: {},
    };
  }

  /** Writes what waits, for at most `deadlineMs`, and closes. */
  async end(deadlineMs: number): Promise<void> {
    this.ended = true;
    if (this.busy) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, deadlineMs);
        this.idle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    if (this.busy) this.fail('deadline');
    else this.close();
  }

  private next(): void {
    if (this.broken) return;
    if (this.lines.length === 0) {
      this.busy = false;
      this.idle?.();
      return;
    }
    this.current = this.lines;
    this.lines = [];
    this.bytes = Buffer.from(this.current.map((line) => line.text).join(''));
    this.written = 0;
    this.step();
  }

  private step(): void {
    write(this.fd, this.bytes, this.written, this.bytes.length - this.written, null, (error, written) => {
      if (this.broken) return;
      if (error !== null) {
        if (error.code === 'EAGAIN' || error.code === 'EINTR') setTimeout(() => !this.broken && this.step(), RETRY_MS);
        else this.refused(error);
        return;
      }
      this.written += written;
      if (this.written < this.bytes.length) this.step();
      else this.done();
    });
  }

  private done(): void {
    let spans = 0;
    for (const line of this.current) {
      spans += line.spans;
      this.waitingBytes -= line.text.length;
    }
    this.current = [];
    this.options.deliveries.exported += spans;
    if (this.waitingBytes <= HIGH_WATER_BYTES) for (const resolve of this.waiting.splice(0)) resolve();
    this.next();
  }

  private refused(error: NodeJS.ErrnoException): void {
    const where = this.options.path ?? 'standard output';
    // `| head` is no failure, only an end.
    // A socket whose reader closes it with something left unread is reset.
    if (error.code === 'EPIPE' || error.code === 'ECONNRESET') {
      this.whyBroken = 'reader_gone';
      this.options.log.info('the reader of the output has gone', { output: where });
    } else {
      this.options.log.error('the output cannot be written any more', {
        output: where,
        reason: whyNot(error, 'write'),
      });
    }
    this.fail(this.whyBroken);
    this.options.onBroken?.(this.whyBroken);
  }

  /** Counts everything that was not wholly written, and stops. */
  private fail(reason: string): void {
    this.broken = true;
    let end = 0;
    let spans = 0;
    for (const line of this.current) {
      end += Buffer.byteLength(line.text);
      if (end > this.written) this.drop(reason, line.spans);
      else spans += line.spans;
    }
    this.options.deliveries.exported += spans;
    for (const line of this.lines) this.drop(reason, line.spans);
    this.current = [];
    this.lines = [];
    this.waitingBytes = 0;
    this.busy = false;
    for (const resolve of this.waiting.splice(0)) resolve();
    this.idle?.();
    // A write that is still under way keeps the descriptor; the process ends soon.
    if (reason !== 'deadline') this.close();
  }

  private close(): void {
    this.broken = true;
    if (this.closes && !this.closed) closeSync(this.fd);
    this.closed = true;
  }

  private drop(reason: string, spans: number): void {
    if (spans > 0) count(this.options.deliveries.dropped, reason, spans);
  }
}

/**
 * Standard output as a description of our own that does not block: a stopped reader must not hold a thread, and other programs
 * share the original, whose mode is not ours to change.
 *
 * @returns undefined for files and sockets, where it is not needed or not possible
 */
function nonBlockingStandardOutput(): number | undefined {
  try {
    if (!fstatSync(1).isFIFO() && !isatty(1)) return undefined;
    return openSync('/proc/self/fd/1', constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined;
  }
}
