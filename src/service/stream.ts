import type { Socket } from 'node:net';
import { streamLimits } from '../config/limits.ts';

/** The body of an answer that goes on: chunks (RFC 9112, 7.1), or up to the end of the connection for HTTP/1.0. It never holds up who writes. */
export class Stream {
  readonly #socket: Socket;
  readonly #isChunked: boolean;
  readonly #closers: (() => void)[] = [];
  #ended = false;
  #isCorked = false;
  /** Bytes that the reader had taken at the last look, and when that grew. */
  #taken = 0;
  #takenAtMs = performance.now();

  constructor(socket: Socket, isChunked: boolean) {
    this.#socket = socket;
    this.#isChunked = isChunked;
    socket.once('close', () => {
      this.#ended = true;
      for (const closer of this.#closers) closer();
    });
  }

  /** More can be written. */
  get isOpen(): boolean {
    return !this.#ended;
  }

  /** @returns false when it is lost: too much waits for the reader, or it has gone */
  write(text: string): boolean {
    const socket = this.#socket;
    // At most three bytes for each UTF-16 unit; nearly always one.
    if (this.#ended || socket.writableLength + text.length > streamLimits.queueBytes) return false;
    if (!this.#isCorked) {
      this.#isCorked = true;
      socket.cork();
      // What comes in the same turn goes in one write.
      setImmediate(() => {
        this.#isCorked = false;
        socket.uncork();
      });
    }
    if (this.#isChunked) socket.write(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
    else socket.write(text);
    return true;
  }

  /** In order: the reader knows that it has everything. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.end(this.#isChunked ? '0\r\n\r\n' : '');
    // A reader that does not take the rest holds up nothing.
    const timer = setTimeout(() => this.#socket.destroy(), streamLimits.lingerMs);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  /** Called once, when nothing more can be written. */
  onClose(closer: () => void): void {
    if (this.#socket.destroyed) closer();
    else this.#closers.push(closer);
  }

  /** To be called now and then: a reader that takes nothing for long is let go. */
  check(nowMs: number): void {
    const socket = this.#socket;
    const taken = socket.bytesWritten - socket.writableLength;
    if (taken !== this.#taken || socket.writableLength === 0) {
      this.#taken = taken;
      this.#takenAtMs = nowMs;
    } else if (nowMs - this.#takenAtMs > streamLimits.stalledMs) {
      socket.destroy();
    }
  }
}
