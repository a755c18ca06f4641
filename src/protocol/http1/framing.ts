import { parseContentLength, parseTransferEncoding } from './grammar.ts';
import type { HeadReader } from './head.ts';

/** A body's framing: its length in bytes, or one of those below. */
export type Framing = number;
export const CHUNKED: Framing = -1;
/** The body ends where the connection does. */
export const UNTIL_CLOSE: Framing = -2;
/** The length fields contradict themselves or are no numbers. */
export const INVALID_FRAMING: Framing = -3;

/**
 * RFC 9112 section 6.3 for requests: Transfer-Encoding overrides Content-Length, and without either there is no body. Where a
 * request ends whose last coding is not chunked is the server's to decide.
 */
export function requestFraming(head: HeadReader): Framing {
  const { transferEncoding, contentLength } = head;
  const coding = transferEncoding === undefined ? 'none' : parseTransferEncoding(transferEncoding);
  if (coding === 'chunked') return CHUNKED;
  if (coding === 'other') return INVALID_FRAMING;
  if (head.plainLength >= 0) return head.plainLength;
  if (contentLength === undefined) return 0;
  const length = parseContentLength(contentLength);
  return length < 0 ? INVALID_FRAMING : length;
}

/**
 * RFC 9112 section 6.3 for final responses that switch no protocol.
 *
 * @param method of the request, empty when it is not known
 */
export function responseFraming(head: HeadReader, method: string): Framing {
  const { transferEncoding, contentLength, statusCode } = head;
  if (method === 'HEAD' || statusCode === 204 || statusCode === 304) return 0;
  const coding = transferEncoding === undefined ? 'none' : parseTransferEncoding(transferEncoding);
  if (coding === 'chunked') return CHUNKED;
  if (coding === 'other') return UNTIL_CLOSE;
  if (head.plainLength >= 0) return head.plainLength;
  if (contentLength === undefined) return UNTIL_CLOSE;
  const length = parseContentLength(contentLength);
  return length < 0 ? INVALID_FRAMING : length;
}
