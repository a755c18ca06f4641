import { keywordSet } from './keywords.ts';

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
export const MAX_COMMAND_BYTES = 24;
export const nothing = new Uint8Array(512);

export const skippedByMark = keywordSet(
  'TABLE',
  'SCHEMA',
  'DATABASE',
  'FUNCTION',
  'PROCEDURE',
  'SEQUENCE',
  'ALL',
  'TABLES',
  'IN',
);

export const skips = {
  target: skippedBeforeTarget,
  maintenance: skippedByMaintenance,
  variable: skippedByVariable,
} as const;
