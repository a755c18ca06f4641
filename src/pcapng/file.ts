/** The file behind --pcapng: the sink's bytes on disk, without ever holding up the pipeline. */
import { createWriteStream, type WriteStream } from 'node:fs';
import type { Limits } from '../config/limits.ts';
import { whyNot } from '../config/system-error.ts';
import { openOutputFile } from '../files/output-file.ts';
import type { Clock } from '../telemetry/clock.ts';
import type { ReasonCounts } from '../telemetry/counters.ts';
import type { Log } from '../telemetry/log.ts';
import { PcapngSink } from './sink.ts';

export interface PcapngFileOptions {
  readonly limits: Limits;
  readonly clock: Clock;
  readonly log: Log;
}

/** Only its owner reads it: the file holds the secrets of the connections in it. */
const FILE_MODE = 0o600;

export class PcapngFile {
  readonly sink: PcapngSink;
  readonly #stream: WriteStream;
  readonly #path: string;
  readonly #options: PcapngFileOptions;
  #broken = false;

  constructor(path: string, options: PcapngFileOptions) {
    this.#path = path;
    this.#options = options;
    const fd = openOutputFile(path, { mode: FILE_MODE, secret: true });
    this.#stream = createWriteStream(path, { fd });
    this.#stream.on('error', (error) => this.#failed(error));
    this.sink = new PcapngSink({
      write: (bytes) => {
        if (!this.#broken) this.#stream.write(bytes);
      },
      limits: options.limits,
      clock: options.clock,
      isBehind: () => this.#stream.writableLength > options.limits.pcapngQueueBytes,
    });
  }

  /** Packets that are not in the file, by reason. */
  get dropped(): ReasonCounts {
    return this.sink.dropped;
  }

  /** For a source that can wait: resolves when the disk has caught up. */
  async ready(): Promise<void> {
    if (!this.#stream.writableNeedDrain || this.#broken) return;
    const stream = this.#stream;
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        stream.off('drain', settle).off('close', settle);
        resolve();
      };
      stream.on('drain', settle).on('close', settle);
    });
  }

  /** Writes what waits and the drop counts, and closes the file. @param lost packets that the capture lost */
  async finish(lost: number): Promise<void> {
    this.sink.finish(lost);
    if (!this.#broken) {
      this.#stream.end();
      await this.#closed();
    }
    const missing = Object.values(this.dropped).reduce((sum, n) => sum + n, 0);
    if (missing > 0)
      this.#options.log.warn('packets are missing in the pcapng file', { file: this.#path, ...this.dropped });
  }

  async #closed(): Promise<void> {
    if (this.#stream.closed) return;
    await new Promise<void>((resolve) => this.#stream.once('close', resolve));
  }

  #failed(error: Error): void {
    this.#broken = true;
    this.sink.turnOff();
    this.#options.log.error('the pcapng file cannot be written any more; spans go on without it', {
      file: this.#path,
      error: whyNot(error, 'write'),
    });
  }
}

/**
 * @param path `undefined`: no file
 * @throws Error that says why the file cannot be opened
 */
export function openPcapng(path: string | undefined, options: PcapngFileOptions): PcapngFile | undefined {
  if (path === undefined) return undefined;
  try {
    return new PcapngFile(path, options);
  } catch (error) {
    throw new Error(`--pcapng: cannot write ${path}: ${whyNot(error, 'write')}`);
  }
}
