/**
 * Consistent probability sampling (OpenTelemetry specification, "TraceState: Probability Sampling" and "TraceState Handling"): a trace has
 * 56 random bits, and who samples with probability p keeps it when they are not below the rejection threshold (1 - p) * 2^56. So all who
 * keep less keep a part of what those keep who keep more. `th` says the threshold, from which a backend has the number of spans that a kept
 * one stands for: 2^56 / (2^56 - threshold).
 */
import { TraceState } from '@opentelemetry/core';

const DIGITS = 14;
const MAX_THRESHOLD = 1n << 56n;
/** What the specification recommends; leading `f`s come on top. */
const PRECISION = 4;
/** "TraceState Handling": what the entry `ot` may hold. */
const MAX_ENTRY_CHARACTERS = 256;
const MAX_MEMBERS = 32;

/** 56 bits, as a number of 24 and one of 32. */
export class Threshold {
  readonly high: number;
  readonly low: number;
  /** Hexadecimal without the zeros at its end, as `th` has it. */
  readonly digits: string;
  /** A tracestate with nothing else in it. */
  readonly traceState: string;

  /** @param value from 0 to 2^56 - 1 */
  constructor(value: bigint) {
    this.high = Number(value >> 32n);
    this.low = Number(value & 0xffff_ffffn);
    this.digits = value.toString(16).padStart(DIGITS, '0').replace(/0+$/, '') || '0';
    this.traceState = `ot=th:${this.digits}`;
  }

  rejects(high: number, low: number): boolean {
    return high < this.high || (high === this.high && low < this.low);
  }

  /** Whether less is kept than with the other one. */
  isAbove(other: Threshold): boolean {
    return this.high > other.high || (this.high === other.high && this.low > other.low);
  }

  /** @returns undefined when it is none: "between 1 and 14 hexadecimal digits" */
  static parse(digits: string): Threshold | undefined {
    return /^[\da-f]{1,14}$/i.test(digits) ? new Threshold(BigInt(`0x${digits.padEnd(DIGITS, '0')}`)) : undefined;
  }

  /**
   * With four digits that tell, as the specification's table has them.
   *
   * @param probability more than 0 and at most 1
   */
  static ofProbability(probability: number): Threshold {
    const kept = BigInt(Math.max(1, Math.round(probability * 2 ** 56)));
    const exact = MAX_THRESHOLD - kept;
    const leading = Math.floor(Math.floor(Math.log2(probability) + 1) / -4);
    const digits = Math.min(DIGITS - 1, PRECISION + Math.max(0, leading));
    const unit = 16n ** BigInt(DIGITS - digits);
    const rounded = ((exact + unit / 2n) / unit) * unit;
    return new Threshold(rounded < MAX_THRESHOLD ? rounded : MAX_THRESHOLD - unit);
  }
}

/** Nothing is rejected. */
export const KEEP_ALL = new Threshold(0n);

/** What the entry `ot` of a tracestate says of sampling. */
export interface OtelEntry {
  readonly threshold: Threshold | undefined;
  /** `rv`: the trace's 56 random bits where they are not those of its id. */
  readonly randomness: Threshold | undefined;
}

/** @param entry `key:value` pairs separated by semicolons; what is malformed counts as not there */
export function readOtelEntry(entry: string): OtelEntry {
  let threshold: Threshold | undefined;
  let randomness: Threshold | undefined;
  for (const field of entry.split(';')) {
    if (field.startsWith('th:')) threshold = Threshold.parse(field.slice(3));
    else if (field.startsWith('rv:') && field.length === 3 + DIGITS) randomness = Threshold.parse(field.slice(3));
  }
  return { threshold, randomness };
}

/**
 * Sets `th` in a tracestate, or takes it out; what else is in it stays.
 *
 * @param traceState valid, may be empty
 * @param threshold undefined: it is not known for how many spans one stands
 */
export function withThreshold(traceState: string, threshold: Threshold | undefined): string {
  if (traceState === '') return threshold === undefined ? '' : threshold.traceState;
  const state = new TraceState(traceState);
  const entry = state.get('ot') ?? '';
  const fields = entry.split(';').filter((field) => field !== '' && !field.startsWith('th:'));
  if (threshold !== undefined) fields.push(`th:${threshold.digits}`);
  const changed = fields.join(';');
  if (changed === entry) return traceState;
  const others = state.unset('ot').serialize();
  if (changed === '' || changed.length > MAX_ENTRY_CHARACTERS) return others;
  // W3C Trace Context, 3.5: what was changed goes first; a list has 32 members, the last one makes room.
  const members = others === '' ? [] : others.split(',').slice(0, MAX_MEMBERS - 1);
  return [`ot=${changed}`, ...members].join(',');
}
