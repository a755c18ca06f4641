/**
 * The messages of PostgreSQL's frontend/backend protocol 3, by the names that the documentation gives them ("Message Formats"). Each is a
 * type byte, a length (Int32, of itself and the body) and the body; the first packet of a connection has no type byte.
 */

import type { FrameFormat } from '../shared/frames.ts';

/** From the client (frontend). */
export const BIND = 0x42;
export const CLOSE = 0x43;
export const COPY_FAIL = 0x66;
export const DESCRIBE = 0x44;
export const EXECUTE = 0x45;
export const FLUSH = 0x48;
export const FUNCTION_CALL = 0x46;
export const PARSE = 0x50;
/** PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse. */
export const AUTHENTICATION_RESPONSE = 0x70;
export const QUERY = 0x51;
export const SYNC = 0x53;
export const TERMINATE = 0x58;

/** From both. */
export const COPY_DATA = 0x64;
export const COPY_DONE = 0x63;

/** From the server (backend). */
export const AUTHENTICATION = 0x52;
export const BACKEND_KEY_DATA = 0x4b;
export const BIND_COMPLETE = 0x32;
export const CLOSE_COMPLETE = 0x33;
export const COMMAND_COMPLETE = 0x43;
export const COPY_BOTH_RESPONSE = 0x57;
export const COPY_IN_RESPONSE = 0x47;
export const COPY_OUT_RESPONSE = 0x48;
export const DATA_ROW = 0x44;
export const EMPTY_QUERY_RESPONSE = 0x49;
export const ERROR_RESPONSE = 0x45;
export const FUNCTION_CALL_RESPONSE = 0x56;
export const NEGOTIATE_PROTOCOL_VERSION = 0x76;
export const NO_DATA = 0x6e;
export const NOTICE_RESPONSE = 0x4e;
export const NOTIFICATION_RESPONSE = 0x41;
export const PARAMETER_DESCRIPTION = 0x74;
export const PARAMETER_STATUS = 0x53;
export const PARSE_COMPLETE = 0x31;
export const PORTAL_SUSPENDED = 0x73;
export const READY_FOR_QUERY = 0x5a;
export const ROW_DESCRIPTION = 0x54;

/** Type byte and length. */
export const HEADER_BYTES = 5;
export const READY_FOR_QUERY_BYTES = 6;

/** What one direction may carry. */
export class MessageTable implements FrameFormat {
  readonly headerBytes = HEADER_BYTES;
  /** By type byte: the largest value of the length field, 0 where there is no such message. */
  readonly maxLength = new Int32Array(256);
  private readonly keep = new Int32Array(256);

  constructor(rows: readonly Row[]) {
    for (const [type, maxLength, keep] of rows) {
      this.maxLength[type] = maxLength;
      this.keep[type] = keep;
    }
  }

  typeOf(bytes: Buffer, at: number): number {
    return bytes[at]!;
  }

  sizeOf(bytes: Buffer, at: number): number {
    const length = (bytes[at + 1]! << 24) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!;
    return length < 4 || length > this.maxLength[bytes[at]!]! ? 0 : length + 1;
  }

  keepOf(type: number): number {
    return this.keep[type]!;
  }
}

/** PostgreSQL's largest message (MaxAllocSize). */
const LARGE = 0x3fffffff;
/** libpq gives up at longer messages of the server, but for some types (VALID_LONG_MESSAGE_TYPE); ParameterDescription can be longer. */
const SMALL = 30_000;
const EMPTY = 4;

/** Names are compared by the server up to 63 bytes (NAMEDATALEN). */
const NAME_BYTES = 256;
/** An ErrorResponse begins with severity and SQLSTATE; the place of the error stands behind its message. */
const ERROR_BYTES = 4096;
/** The longest tag (COMPLETION_TAG_BUFSIZE) has 64. */
const TAG_BYTES = 256;
const PARAMETER_BYTES = 4096;

type Row = readonly [type: number, maxLength: number, keep: number];

let lastFrontend: readonly [textBytes: number, table: MessageTable] | undefined;

/**
 * @param textBytes of one SQL text that are read
 * @returns the same table as long as it is asked for the same: one serves all connections
 */
export function frontendMessages(textBytes: number): MessageTable {
  if (lastFrontend?.[0] !== textBytes) lastFrontend = [textBytes, frontendTable(textBytes)];
  return lastFrontend[1];
}

function frontendTable(textBytes: number): MessageTable {
  return new MessageTable([
    [BIND, LARGE, 2 * NAME_BYTES],
    [CLOSE, SMALL, NAME_BYTES],
    [COPY_DATA, LARGE, 0],
    [COPY_DONE, EMPTY, 0],
    [COPY_FAIL, LARGE, 0],
    [DESCRIBE, SMALL, NAME_BYTES],
    [EXECUTE, SMALL, NAME_BYTES],
    [FLUSH, EMPTY, 0],
    [FUNCTION_CALL, LARGE, 0],
    [PARSE, LARGE, NAME_BYTES + textBytes],
    [AUTHENTICATION_RESPONSE, 0xffff, 0],
    [QUERY, LARGE, textBytes],
    [SYNC, EMPTY, 0],
    [TERMINATE, EMPTY, 0],
  ]);
}

export const backendMessages = new MessageTable([
  [AUTHENTICATION, 0xffff, 0],
  [BACKEND_KEY_DATA, SMALL, 0],
  [BIND_COMPLETE, EMPTY, 0],
  [CLOSE_COMPLETE, EMPTY, 0],
  [COMMAND_COMPLETE, SMALL, TAG_BYTES],
  [COPY_BOTH_RESPONSE, SMALL, 0],
  [COPY_DATA, LARGE, 0],
  [COPY_DONE, EMPTY, 0],
  [COPY_IN_RESPONSE, SMALL, 0],
  [COPY_OUT_RESPONSE, SMALL, 0],
  [DATA_ROW, LARGE, 0],
  [EMPTY_QUERY_RESPONSE, EMPTY, 0],
  [ERROR_RESPONSE, LARGE, ERROR_BYTES],
  [FUNCTION_CALL_RESPONSE, LARGE, 0],
  [NEGOTIATE_PROTOCOL_VERSION, SMALL, 0],
  [NO_DATA, EMPTY, 0],
  [NOTICE_RESPONSE, LARGE, 0],
  [NOTIFICATION_RESPONSE, LARGE, 0],
  [PARAMETER_DESCRIPTION, 0x7ffff, 0],
  [PARAMETER_STATUS, LARGE, PARAMETER_BYTES],
  [PARSE_COMPLETE, EMPTY, 0],
  [PORTAL_SUSPENDED, EMPTY, 0],
  [READY_FOR_QUERY, 5, 1],
  [ROW_DESCRIPTION, LARGE, 0],
]);
