/** What a gRPC error says of trying again, as the OTLP specification reads it ("OTLP/gRPC Response", "OTLP/gRPC Throttling"). */

import { type StatusName, statusName } from '../protocol/grpc/status.ts';
import type { Failure } from './batch.ts';

const RETRYABLE: ReadonlySet<StatusName> = new Set([
  'CANCELLED',
  'DEADLINE_EXCEEDED',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNAVAILABLE',
  'DATA_LOSS',
]);

/** Reads an error of a gRPC client. */
export function classify(error: unknown): Failure {
  const code = isRecord(error) && typeof error.code === 'number' ? error.code : -1;
  const status = statusName(code);
  if (status === undefined) return { status: 'error', retryable: false, retryDelayMs: undefined };
  const retryDelayMs = isRecord(error) ? retryInfoOf(error.metadata) : undefined;
  // Without RetryInfo a server that is out of resources asks for no more of this.
  const retryable = RETRYABLE.has(status) || (status === 'RESOURCE_EXHAUSTED' && retryDelayMs !== undefined);
  return { status, retryable, retryDelayMs };
}

function retryInfoOf(metadata: unknown): number | undefined {
  if (!isRecord(metadata) || typeof metadata.get !== 'function') return undefined;
  const values: unknown = metadata.get('grpc-status-details-bin');
  if (!Array.isArray(values)) return undefined;
  for (const value of values as unknown[]) {
    const delayMs = value instanceof Uint8Array ? parseRetryDelayMs(value) : undefined;
    if (delayMs !== undefined) return delayMs;
  }
  return undefined;
}

/**
 * Finds google.rpc.RetryInfo in a google.rpc.Status.
 *
 *   Status { 1: code, 2: message, 3: repeated Any { 1: type_url, 2: value } }, RetryInfo { 1: Duration { 1: seconds, 2: nanos } }
 *
 * @returns milliseconds; undefined when there is none, or the bytes are malformed
 */
export function parseRetryDelayMs(status: Uint8Array): number | undefined {
  for (const detail of fields(status)) {
    if (detail.number !== 3 || detail.bytes === undefined) continue;
    let typeUrl = '';
    let value: Uint8Array | undefined;
    for (const field of fields(detail.bytes)) {
      if (field.number === 1 && field.bytes !== undefined) typeUrl = Buffer.from(field.bytes).toString('latin1');
      if (field.number === 2) value = field.bytes;
    }
    if (!typeUrl.endsWith('/google.rpc.RetryInfo')) continue;
    let delayMs = 0;
    for (const field of fields(value ?? new Uint8Array())) {
      if (field.number !== 1 || field.bytes === undefined) continue;
      for (const part of fields(field.bytes)) {
        if (part.number === 1) delayMs += part.value * 1000;
        if (part.number === 2) delayMs += part.value / 1e6;
      }
    }
    return delayMs;
  }
  return undefined;
}

/** The message of a google.rpc.Status, with which OTLP/HTTP answers in case of failure; empty when there is none. */
export function statusMessage(status: Uint8Array): string {
  for (const field of fields(status)) {
    if (field.number === 2 && field.bytes !== undefined) return Buffer.from(field.bytes).toString();
  }
  return '';
}

interface Field {
  readonly number: number;
  /** Of a varint. */
  readonly value: number;
  /** Of a length-delimited field. */
  readonly bytes: Uint8Array | undefined;
}

/** The fields of a message as far as it is well-formed. */
function* fields(message: Uint8Array): Generator<Field> {
  let at = 0;
  let overrun = false;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; at < message.length; scale *= 128) {
      const byte = message[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    overrun = true;
    return 0;
  };
  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0: {
        const value = varint();
        if (!overrun) yield { number, value, bytes: undefined };
        break;
      }
      case 1:
        at += 8;
        break;
      case 2: {
        const length = varint();
        if (overrun || length > message.length - at) return;
        yield { number, value: 0, bytes: message.subarray(at, at + length) };
        at += length;
        break;
      }
      case 5:
        at += 4;
        break;
      default:
        return;
    }
    if (overrun) return;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
