import type { FieldReader } from './fields.ts';
import { binaryWidth, SEND_TYPES_TO_SERVER } from './wire.ts';

/**
 * Steps over parameters in the Binary Protocol. Their values are passed over; of query attributes the two that carry a trace's context are read.
 */

/** No context of a trace is longer (W3C Trace Context, sections 3.2 and 3.3.1.5). */
const MAX_CONTEXT_BYTES = 512;
const CONTEXT_NAMES = ['traceparent', 'tracestate'] as const;
/** More attributes than any client sends: beyond it the packet is no such packet. */
const MAX_PARAMETERS = 65_535;

export interface TraceContext {
  traceparent: string;
  tracestate: string;
}

/**
 * Steps over the attributes of COM_QUERY ("COM_QUERY", with CLIENT_QUERY_ATTRIBUTES), so that the text is next.
 *
 * @returns false when they are not whole or not as they should be
 */
export function readQueryAttributes(fields: FieldReader, context: TraceContext): boolean {
  const count = fields.lengthEncoded();
  // parameter_set_count: always 1
  const sets = fields.lengthEncoded();
  if (fields.failed || sets !== 1 || count > MAX_PARAMETERS) return false;
  return count === 0 || readNamed(fields, count, 0, context);
}

/**
 * Reads the attributes of COM_STMT_EXECUTE, which follow the statement's own parameters.
 *
 * @param fields stands after iteration_count
 * @param own how many parameters the statement has
 */
export function readExecuteAttributes(fields: FieldReader, own: number, context: TraceContext): void {
  const count = fields.lengthEncoded();
  if (!fields.failed && count > own && count <= MAX_PARAMETERS) readNamed(fields, count, own, context);
}

/** null_bitmap, new_params_bind_flag, then for each parameter its type and name, then for each its value. */
function readNamed(fields: FieldReader, count: number, own: number, context: TraceContext): boolean {
  const nulls = fields.position;
  fields.skip((count + 7) >> 3);
  if (fields.u8() !== 1) return false;
  const types = new Uint8Array(count);
  const names: (0 | 1 | undefined)[] = [];
  for (let i = 0; i < count && !fields.failed; i++) {
    types[i] = fields.u16() & 0xff;
    names.push(contextName(fields, i >= own));
  }
  for (let i = 0; i < count && !fields.failed; i++) {
    if ((fields.bytes[nulls + (i >> 3)]! & (1 << (i & 7))) !== 0) continue;
    const name = names[i];
    if (name === undefined) skipValue(fields, types[i]!);
    else context[CONTEXT_NAMES[name]] = textValue(fields, types[i]!);
  }
  return !fields.failed;
}

function contextName(fields: FieldReader, isAttribute: boolean): 0 | 1 | undefined {
  const length = fields.lengthEncoded();
  const start = fields.position;
  if (!fields.skip(length) || !isAttribute || (length !== 10 && length !== 11)) return undefined;
  const name = fields.bytes.toString('latin1', start, start + length).toLowerCase();
  return name === CONTEXT_NAMES[0] ? 0 : name === CONTEXT_NAMES[1] ? 1 : undefined;
}

function textValue(fields: FieldReader, type: number): string {
  if (binaryWidth(type) !== -2) {
    skipValue(fields, type);
    return '';
  }
  const length = fields.lengthEncoded();
  const start = fields.position;
  return fields.skip(length) && length <= MAX_CONTEXT_BYTES
    ? fields.bytes.toString('latin1', start, start + length)
    : '';
}

/** Binary Protocol Value. */
function skipValue(fields: FieldReader, type: number): void {
  const width = binaryWidth(type);
  if (width >= 0) fields.skip(width);
  else if (width === -1) fields.skip(fields.u8());
  else fields.skipString();
}

/**
 * Counts the parameter sets of COM_STMT_BULK_EXECUTE (MariaDB).
 *
 * @param fields stands after the statement's number
 * @param count of parameters of the statement
 * @param known their types when an earlier execution sent them
 * @returns how many sets there are, 0 when that is not known; and the types that were sent
 */
export function countBulkSets(
  fields: FieldReader,
  count: number,
  known: Uint8Array | undefined,
): { sets: number; types: Uint8Array | undefined } {
  let types = known;
  if (count <= 0) return { sets: 0, types: undefined };
  if ((fields.u16() & SEND_TYPES_TO_SERVER) !== 0) {
    types = new Uint8Array(Math.min(count, fields.remaining));
    for (let i = 0; i < types.length; i++) types[i] = fields.u16() & 0xff;
  }
  if (fields.failed || types?.length !== count) return { sets: 0, types: undefined };
  let sets = 0;
  while (fields.remaining > 0 && !fields.failed) {
    for (let i = 0; i < count && !fields.failed; i++) {
      // Indicator: 0 a value follows; NULL, DEFAULT, IGNORE: none does.
      if (fields.u8() === 0) skipValue(fields, types[i]!);
    }
    sets++;
  }
  return { sets: fields.failed ? 0 : sets, types };
}
