/** Compressed-Flag, Message-Length (doc/PROTOCOL-HTTP2.md, "Length-Prefixed-Message"). */
const PREFIX_BYTES = 5;
const COMPRESSED = 0x01;
/** doc/PROTOCOL-WEB.md: the frame holds trailers. */
const TRAILERS = 0x80;

/** Where the content of trailer frames goes: bytes[start..end) are borrowed. */
export interface TrailerSink {
  /** A trailer frame begins. */
  begin(compressed: boolean): void;
  take(bytes: Buffer, start: number, end: number): void;
  /** It ends. */
  end(): void;
}

/**
 * Counts the length-prefixed messages of one direction, by their prefixes; holds none of their bytes.
 *
 * A hole within a message is survived when its length is known; any other leaves the place unknown, for good: prefixes cannot be found again.
 */
export class MessageReader {
  /** Whole messages; compressed ones among them; their bytes as transferred, without prefixes. */
  messages = 0;
  compressed = 0;
  bytes = 0;
  /** When the first byte of the first message was there; 0 before. */
  firstUs = 0;
  /** The place in the stream is not known: what was counted is not all. */
  lost = false;
  /** What follows is no length-prefixed message. */
  invalid = false;
  private readonly trailers: TrailerSink | undefined;
  /** Octets of the prefix so far. */
  private prefix = 0;
  private flags = 0;
  private length = 0;
  private remaining = 0;

  /** @param trailers of gRPC-Web; without it trailer frames are invalid */
  constructor(trailers?: TrailerSink) {
    this.trailers = trailers;
  }

  /** Content of the body: bytes[start..end). */
  data(bytes: Buffer, start: number, end: number, firstUs: number): void {
    if (this.lost || start >= end) return;
    let at = start;
    while (at < end) {
      if (this.prefix < PREFIX_BYTES) {
        if (!this.prefixOctet(bytes[at++]!, firstUs)) return;
        continue;
      }
      const n = Math.min(this.remaining, end - at);
      if (this.flags >= TRAILERS) this.trailers?.take(bytes, at, at + n);
      at += n;
      this.pass(n);
    }
  }

  /** @param length of the hole; -1 when it is not known */
  gap(length: number): void {
    if (this.lost) return;
    const inside = this.prefix === PREFIX_BYTES && length >= 0 && length <= this.remaining;
    if (inside && this.flags < TRAILERS) this.pass(length);
    else this.lost = true;
  }

  /** @returns false when it is none */
  private prefixOctet(octet: number, firstUs: number): boolean {
    if (this.prefix === 0) {
      const known = this.trailers === undefined ? COMPRESSED : COMPRESSED | TRAILERS;
      if ((octet & ~known) !== 0) {
        this.lost = true;
        this.invalid = true;
        return false;
      }
      if (this.firstUs === 0 && octet < TRAILERS) this.firstUs = firstUs;
      this.flags = octet;
      this.length = 0;
    } else this.length = this.length * 256 + octet;
    if (++this.prefix < PREFIX_BYTES) return true;
    this.remaining = this.length;
    if (this.flags >= TRAILERS) this.trailers?.begin((this.flags & COMPRESSED) !== 0);
    if (this.remaining === 0) this.whole();
    return true;
  }

  private pass(n: number): void {
    this.remaining -= n;
    if (this.remaining === 0) this.whole();
  }

  private whole(): void {
    this.prefix = 0;
    if (this.flags >= TRAILERS) {
      this.trailers?.end();
      return;
    }
    this.messages++;
    this.bytes += this.length;
    if ((this.flags & COMPRESSED) !== 0) this.compressed++;
  }
}
