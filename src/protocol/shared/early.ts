import { BUFFER_COST } from '../../memory/cost.ts';

/** Bytes of the server that were seen before the request that they answer. */
export interface EarlyBytes {
  readonly bytes: Buffer;
  readonly timeUs: number;
  /** When the first of them was seen. */
  readonly firstUs: number;
}

const NONE: readonly EarlyBytes[] = [];

/**
 * Holds answers that are seen before their requests: capture by several processors does not keep the order of both directions, and
 * reassembly may hold the request up. The protocol takes them out when a request waits, or when they answer none that will be seen.
 */
export class EarlyAnswers {
  /** Bytes that are held. */
  heldBytes = 0;
  private held: EarlyBytes[] = [];
  private readonly limit: number;

  /** @param limit of `cost`, in bytes */
  constructor(limit: number) {
    this.limit = limit;
  }

  get isEmpty(): boolean {
    return this.held.length === 0;
  }

  get first(): EarlyBytes | undefined {
    return this.held[0];
  }

  /** What is held (memory/cost.ts). */
  get cost(): number {
    return this.heldBytes + this.held.length * BUFFER_COST;
  }

  /** Copies bytes[start..end). @returns false when more is held than may be: take it out */
  hold(bytes: Buffer, start: number, end: number, timeUs: number, firstUs: number): boolean {
    const copy = Buffer.allocUnsafeSlow(end - start);
    bytes.copy(copy, 0, start, end);
    this.held.push({ bytes: copy, timeUs, firstUs });
    this.heldBytes += copy.length;
    return this.cost <= this.limit;
  }

  /** @returns all that is held, in its order; nothing is held then */
  take(): readonly EarlyBytes[] {
    if (this.isEmpty) return NONE;
    const { held } = this;
    this.held = [];
    this.heldBytes = 0;
    return held;
  }
}
