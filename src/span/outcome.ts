/** How an exchange ended, as its spans say it. */
import { SpanStatusCode } from '@opentelemetry/api';
import type { IncompleteReason } from '../exchange/exchange.ts';
import { KEY } from './attributes.ts';
import type { Span } from './span.ts';

/** @returns the value of error.type for an exchange that is not whole; empty when that is no error of the observed */
export function errorOfIncomplete(incomplete: IncompleteReason | undefined): string {
  switch (incomplete) {
    case 'connection_reset':
    case 'connection_closed':
    case 'stream_reset':
    case 'timeout':
    case 'protocol_error':
      return incomplete;
    // Limits of the observer are no errors of the observed.
    case 'gap':
    case 'shutdown':
    case 'limit':
    case 'memory':
    case undefined:
      return '';
    default:
      return incomplete satisfies never;
  }
}

/**
 * Sets wirespan.exchange.incomplete, error.type and the status of a span.
 *
 * @param error the value of error.type; empty: the exchange did not fail as seen from the span's endpoint
 */
export function setOutcome(span: Span, incomplete: IncompleteReason | undefined, error: string): void {
  if (incomplete !== undefined) span.set(KEY.incomplete, incomplete);
  if (error !== '') span.set(KEY.errorType, error);
  span.status = error === '' ? SpanStatusCode.UNSET : SpanStatusCode.ERROR;
}

/** Sets a time that passed in seconds, where both of its moments were seen (0: not seen). */
export function setDelay(span: Span, key: (typeof KEY)[keyof typeof KEY], fromUs: number, toUs: number): void {
  if (fromUs === 0 || toUs === 0) return;
  // Whole nanoseconds: no digits that were never measured.
  span.set(key, Math.round(Math.max(0, toUs - fromUs) * 1000) / 1e9);
}
