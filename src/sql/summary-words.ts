import { K, keywordSet } from './keywords.ts';

/** Sets of words that the summary of a statement tells apart. */

export const skippedBeforeTarget = keywordSet(
  ...(['INTO', 'ONLY', 'LATERAL', 'IGNORE', 'LOW_PRIORITY', 'HIGH_PRIORITY', 'DELAYED', 'QUICK', 'OVERWRITE'] as const),
  ...(['CONCURRENTLY'] as const),
);
export const skippedByObject = keywordSet(
  'IF',
  'NOT',
  'EXISTS',
  'CONCURRENTLY',
  'ONLY',
  'FULL',
  'FREEZE',
  'VERBOSE',
  'ANALYZE',
);
const skippedByMaintenance = keywordSet(
  ...(['FULL', 'FREEZE', 'VERBOSE', 'ANALYZE', 'ANALYSE', 'LOCAL', 'NO_WRITE_TO_BINLOG', 'ONLY'] as const),
);
const skippedByCopy = keywordSet('BINARY');
const skippedByVariable = keywordSet('GLOBAL', 'SESSION', 'LOCAL', 'PERSIST', 'PERSIST_ONLY');
/** Clauses that end a list of tables. */
export const endsTables = keywordSet(
  ...([
    'WHERE',
    'GROUP',
    'ORDER',
    'HAVING',
    'LIMIT',
    'OFFSET',
    'FETCH',
    'FOR',
    'WINDOW',
    'RETURNING',
    'QUALIFY',
  ] as const),
  ...(['VALUES', 'INTO', 'SET', 'LOCK', 'UPDATE'] as const),
);
export const combines = keywordSet('UNION', 'INTERSECT', 'EXCEPT', 'MINUS');
export const objectKinds = keywordSet(
  ...([
    'TABLE',
    'VIEW',
    'INDEX',
    'PROCEDURE',
    'FUNCTION',
    'ROUTINE',
    'TRIGGER',
    'EVENT',
    'DATABASE',
    'SCHEMA',
  ] as const),
  ...(['SEQUENCE', 'USER', 'ROLE', 'GROUP', 'LOGIN', 'TYPE', 'DOMAIN', 'EXTENSION', 'AGGREGATE', 'COLLATION'] as const),
  ...([
    'CONVERSION',
    'LANGUAGE',
    'OPERATOR',
    'PUBLICATION',
    'SUBSCRIPTION',
    'RULE',
    'POLICY',
    'SERVER',
    'CAST',
  ] as const),
  ...(['TABLESPACE', 'STATISTICS', 'TRANSFORM', 'PACKAGE', 'PRIVILEGES', 'WRAPPER', 'METHOD', 'OBJECT'] as const),
  ...(['CONFIGURATION', 'DICTIONARY', 'PARSER', 'TEMPLATE', 'CONSTRAINT', 'COLUMN'] as const),
);
export const objectPrefixes = keywordSet(
  ...(['MATERIALIZED', 'FOREIGN', 'DATA', 'ACCESS', 'TEXT', 'SEARCH', 'LARGE', 'DEFAULT', 'ON'] as const),
);
export const statementStarts = keywordSet(
  ...([
    'SELECT',
    'INSERT',
    'UPDATE',
    'DELETE',
    'MERGE',
    'REPLACE',
    'VALUES',
    'TABLE',
    'WITH',
    'EXECUTE',
    'CREATE',
  ] as const),
  ...(['DECLARE', 'REFRESH', 'CALL'] as const),
);
export const endsWords = keywordSet('FROM', 'IN', 'LIKE', 'WHERE', 'FOR', 'AND', 'WITH', 'ON');
const MAX_COMMAND_BYTES = 24;

/** A word of letters only, not too long: a command that is not known here, rather than something typed by mistake. */
export function isPlain(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const letter = bytes[at]! | 0x20;
    if (letter < 0x61 || letter > 0x7a) return false;
  }
  return end - start <= MAX_COMMAND_BYTES;
}

export const nothing = new Uint8Array(512);

export const skippedByMark = keywordSet('TABLE');

/** Words of the grammar that are no name of a table, unless they are quoted. */
export const noTarget = keywordSet(
  ...([
    'SELECT',
    'FROM',
    'TO',
    'SET',
    'AS',
    'FOR',
    'USING',
    'IN',
    'WITH',
    'WHERE',
    'GROUP',
    'ORDER',
    'HAVING',
  ] as const),
  ...(['LIMIT', 'UNION', 'EXCEPT', 'INTERSECT', 'AND', 'OR', 'ON', 'NOT', 'LIKE', 'NULL', 'CREATE', 'INTO'] as const),
  ...(['VALUES', 'RETURNING', 'WHEN', 'THEN', 'CASE', 'XMLTABLE', 'JSON_TABLE', 'GRANT'] as const),
);
/** The same of the name of an object, where statements leave it out. */
export const noObject = keywordSet(
  ...([
    'FROM',
    'TO',
    'SET',
    'AS',
    'FOR',
    'USING',
    'IN',
    'WITH',
    'ON',
    'ALL',
    'CHARACTER',
    'COLLATE',
    'DEFAULT',
  ] as const),
);

/** Whether two words are one kind of object: EVENT TRIGGER. */
export function continuesObject(object: number, keyword: number): boolean {
  switch (keyword) {
    case K.TRIGGER:
      return object === K.EVENT || object === K.CONSTRAINT;
    case K.CLASS:
    case K.FAMILY:
      return object === K.OPERATOR;
    case K.FUNCTION:
      return object === K.AGGREGATE;
    case K.BODY:
      return object === K.PACKAGE;
    default:
      return false;
  }
}

export const skips = {
  target: skippedBeforeTarget,
  maintenance: skippedByMaintenance,
  variable: skippedByVariable,
  copy: skippedByCopy,
} as const;
