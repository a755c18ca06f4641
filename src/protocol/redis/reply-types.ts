/* What replies consist of. */

// First bytes (RESP protocol specification, "RESP protocol description").
export const SIMPLE_STRING = 0x2b; // +
export const SIMPLE_ERROR = 0x2d; // -
export const INTEGER = 0x3a; // :
export const BULK_STRING = 0x24; // $
export const ARRAY = 0x2a; // *
export const NULL = 0x5f; // _
export const BOOLEAN = 0x23; // #
export const DOUBLE = 0x2c; // ,
export const BIG_NUMBER = 0x28; // (
export const BULK_ERROR = 0x21; // !
export const VERBATIM_STRING = 0x3d; // =
export const MAP = 0x25; // %
export const SET = 0x7e; // ~
export const PUSH = 0x3e; // >
export const ATTRIBUTE = 0x7c; // |
/** A part of a string of unknown length, and the end of an aggregate of unknown length (RESP3 specification, "Streamed ..."). */
export const CHUNK = 0x3b; // ;
export const END = 0x2e; // .

/** How the value of a type is written: in a line, as bytes of a given number, or as other values of a given number. */
export const LINE = 1;
export const BLOB = 2;
export const AGGREGATE = 3;
export const FORMS = new Uint8Array(256);
for (const type of [SIMPLE_STRING, SIMPLE_ERROR, INTEGER, NULL, BOOLEAN, DOUBLE, BIG_NUMBER, END]) FORMS[type] = LINE;
for (const type of [BULK_STRING, BULK_ERROR, VERBATIM_STRING, CHUNK]) FORMS[type] = BLOB;
for (const type of [ARRAY, MAP, SET, PUSH, ATTRIBUTE]) FORMS[type] = AGGREGATE;

/** Whether a reply may begin with this byte. */
export function isReplyType(byte: number): boolean {
  return FORMS[byte] !== 0 && byte !== CHUNK && byte !== END;
}
