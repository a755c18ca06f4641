/**
 * The words that the analysis of a statement looks at. A word that is none of them is a name, as far as it matters here.
 * Found by a hash of the bytes, letter case aside, without making a string.
 */
const words = [
  ...[
    'SELECT',
    'INSERT',
    'UPDATE',
    'DELETE',
    'MERGE',
    'REPLACE',
    'UPSERT',
    'CALL',
    'EXEC',
    'EXECUTE',
    'VALUES',
    'TABLE',
  ],
  ...['WITH', 'RECURSIVE', 'AS', 'FROM', 'JOIN', 'STRAIGHT_JOIN', 'INTO', 'USING', 'ON', 'IN', 'SET', 'TO', 'BY', 'IS'],
  ...[
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
    'UNION',
  ],
  ...[
    'INTERSECT',
    'EXCEPT',
    'MINUS',
    'ALL',
    'DISTINCT',
    'AND',
    'OR',
    'NOT',
    'BETWEEN',
    'LIKE',
    'ILIKE',
    'CASE',
    'WHEN',
  ],
  ...['THEN', 'ELSE', 'END', 'RETURN', 'DEFAULT', 'TRUE', 'FALSE', 'NULL', 'EXISTS', 'IF', 'ONLY', 'LATERAL', 'IGNORE'],
  ...['LOW_PRIORITY', 'HIGH_PRIORITY', 'DELAYED', 'QUICK', 'OVERWRITE', 'CONCURRENTLY', 'CREATE', 'ALTER', 'DROP'],
  ...[
    'COMMENT',
    'REFRESH',
    'REINDEX',
    'IMPORT',
    'TRUNCATE',
    'RENAME',
    'LOCK',
    'UNLOCK',
    'ANALYZE',
    'ANALYSE',
    'VACUUM',
  ],
  ...['OPTIMIZE', 'CHECK', 'REPAIR', 'CHECKSUM', 'CLUSTER', 'EXPLAIN', 'DESCRIBE', 'DESC', 'SHOW', 'RESET', 'DISCARD'],
  ...['USE', 'LISTEN', 'UNLISTEN', 'NOTIFY', 'HANDLER', 'BEGIN', 'START', 'COMMIT', 'ROLLBACK', 'ABORT', 'SAVEPOINT'],
  ...[
    'RELEASE',
    'PREPARE',
    'DEALLOCATE',
    'DECLARE',
    'CURSOR',
    'CLOSE',
    'MOVE',
    'COPY',
    'LOAD',
    'GRANT',
    'REVOKE',
    'DO',
  ],
  ...['XA', 'FLUSH', 'TABLES', 'VIEW', 'INDEX', 'PROCEDURE', 'FUNCTION', 'ROUTINE', 'TRIGGER', 'EVENT', 'DATABASE'],
  ...['SCHEMA', 'SEQUENCE', 'USER', 'ROLE', 'LOGIN', 'TYPE', 'DOMAIN', 'EXTENSION', 'AGGREGATE', 'COLLATION', 'CAST'],
  ...['CONVERSION', 'LANGUAGE', 'OPERATOR', 'PUBLICATION', 'SUBSCRIPTION', 'RULE', 'POLICY', 'SERVER', 'TABLESPACE'],
  ...['STATISTICS', 'TRANSFORM', 'PACKAGE', 'PRIVILEGES', 'WRAPPER', 'METHOD', 'OBJECT', 'CONFIGURATION', 'DICTIONARY'],
  ...[
    'PARSER',
    'TEMPLATE',
    'CONSTRAINT',
    'COLUMN',
    'MATERIALIZED',
    'FOREIGN',
    'DATA',
    'ACCESS',
    'TEXT',
    'SEARCH',
    'LARGE',
  ],
  ...['MAPPING', 'XML', 'TRANSACTION', 'PREPARED', 'WORK', 'IMMEDIATE', 'GLOBAL', 'SESSION', 'LOCAL', 'PERSIST'],
  ...['PERSIST_ONLY', 'FULL', 'FREEZE', 'VERBOSE', 'NO_WRITE_TO_BINLOG', 'FORMAT', 'EXTENDED', 'PARTITIONS', 'ATOMIC'],
  ...[
    'LOOP',
    'WHILE',
    'REPEAT',
    'ROW',
    'DETERMINISTIC',
    'SQL',
    'DEFINER',
    'INVOKER',
    'PASSWORD',
    'IDENTIFIED',
    'EXPIRE',
  ],
  ...[
    'HISTORY',
    'REUSE',
    'REQUIRE',
    'RANDOM',
    'SEARCH_PATH',
    'PARTITION',
    'DIV',
    'MOD',
    'XOR',
    'REGEXP',
    'RLIKE',
    'INTERVAL',
  ],
  ...['COLLATE', 'ESCAPE', 'SIMILAR', 'ANY', 'SOME', 'SYMMETRIC', 'NEW', 'NAMES'],
  ...[
    'ROWS',
    'INSTANCE',
    'TIME',
    'CHARACTER',
    'RESOURCE',
    'QUERY',
    'AUTHORIZATION',
    'BINARY',
    'CLASS',
    'FAMILY',
    'BODY',
  ],
  ...['DUAL', 'XMLTABLE', 'JSON_TABLE'],
] as const;

export type Keyword = (typeof words)[number];

/** The number of each keyword, from 1; 0 is no keyword. */
export const K = Object.fromEntries(words.map((word, index) => [word, index + 1])) as Readonly<Record<Keyword, number>>;

/** Set membership by number: `keywordSet('A', 'B')[number] === 1`. */
export function keywordSet(...members: Keyword[]): Uint8Array {
  const set = new Uint8Array(words.length + 1);
  for (const member of members) set[K[member]] = 1;
  return set;
}

const LONGEST = Math.max(...words.map((word) => word.length));
const SLOTS = 2048;
const slots = new Uint16Array(SLOTS);
const spellings: Buffer[] = [Buffer.alloc(0), ...words.map((word) => Buffer.from(word.toLowerCase(), 'latin1'))];

for (let number = 1; number <= words.length; number++) {
  const spelling = spellings[number]!;
  let slot = hash(spelling, 0, spelling.length);
  while (slots[slot] !== 0) slot = (slot + 1) % SLOTS;
  slots[slot] = number;
}

function hash(bytes: Buffer, start: number, end: number): number {
  let value = end - start;
  for (let i = start; i < end; i++) value = Math.imul(value, 31) + (bytes[i]! | 0x20);
  return (value ^ (value >>> 11)) & (SLOTS - 1);
}

/** The number of the keyword that stands at bytes[start..end), 0 when it is none. */
export function keywordAt(bytes: Buffer, start: number, end: number): number {
  const length = end - start;
  if (length > LONGEST || length < 2) return 0;
  for (let slot = hash(bytes, start, end); slots[slot] !== 0; slot = (slot + 1) % SLOTS) {
    const number = slots[slot]!;
    const spelling = spellings[number]!;
    if (spelling.length === length && same(spelling, bytes, start)) return number;
  }
  return 0;
}

/** `_` is the only character of a keyword that is no letter; setting its 0x20 bit would make DEL of it. */
function same(spelling: Buffer, bytes: Buffer, start: number): boolean {
  for (let i = 0; i < spelling.length; i++) {
    const expected = spelling[i]!;
    const actual = bytes[start + i]!;
    if (expected !== (expected === 0x5f ? actual : actual | 0x20)) return false;
  }
  return true;
}
