import { K, type Keyword, keywordSet } from './keywords.ts';

/** How a statement goes on behind its first word, for its summary. */
export interface Start {
  /** What follows the word: see `Mode` in summary.ts. */
  readonly mode: 'TARGET' | 'LIST' | 'CLAUSES' | 'OBJECT' | 'OPTIONS' | 'BODY' | 'WORDS' | 'MARKED' | 'DONE' | 'CTE';
  /** Several targets may stand in a list. */
  readonly list?: boolean;
  /** Words that are passed over before the target. */
  readonly skips?: 'target' | 'maintenance' | 'variable' | 'copy';
  /** Words directly behind that belong to the operation: TRUNCATE TABLE. */
  readonly takes?: Uint8Array;
  /** Of WORDS: how many at most. */
  readonly words?: number;
  /** Of WORDS: names are no part of the operation. */
  readonly keywordsOnly?: boolean;
  /** Of MARKED: the words that the target stands behind. */
  readonly marks?: Uint8Array;
  /** Of MARKED: the last of several words is the target. */
  readonly last?: boolean;
  /** Words that are no target but the operation, with the one that follows: SET TIME ZONE. */
  readonly phrases?: Uint8Array;
  /** A statement, with FORMAT before it, may stand in the place of the target. */
  readonly format?: boolean;
  /** Parentheses before the target are options. */
  readonly options?: boolean;
  /** The target is a procedure, a variable; an object of some kind; no collection. */
  readonly procedure?: boolean;
  readonly variable?: boolean;
  readonly object?: boolean;
  readonly collection?: boolean;
}

const table = keywordSet('TABLE', 'TABLES');
const named: Start = { mode: 'TARGET', collection: false };
const alone: Start = { mode: 'DONE' };
const object: Start = { mode: 'OBJECT', object: true };
const maintenance: Start = { mode: 'TARGET', list: true, skips: 'maintenance', takes: table, options: true };
const tables: Start = { mode: 'TARGET', list: true, takes: table };
const explain: Start = { mode: 'OPTIONS', options: true };

const starts: Partial<Record<Keyword, Start>> = {
  SELECT: { mode: 'LIST', list: true },
  WITH: { mode: 'CTE' },
  VALUES: { mode: 'CLAUSES' },
  TABLE: { mode: 'TARGET' },
  INSERT: { mode: 'TARGET' },
  REPLACE: { mode: 'TARGET' },
  UPSERT: { mode: 'TARGET' },
  MERGE: { mode: 'TARGET' },
  UPDATE: { mode: 'TARGET', list: true },
  DELETE: { mode: 'LIST', list: true },
  CALL: { mode: 'TARGET', procedure: true },
  EXEC: named,
  EXECUTE: { mode: 'TARGET', collection: false, takes: keywordSet('IMMEDIATE') },
  CREATE: object,
  ALTER: object,
  DROP: { mode: 'OBJECT', object: true, list: true },
  COMMENT: object,
  REFRESH: object,
  REINDEX: { mode: 'OBJECT', object: true, options: true },
  IMPORT: object,
  TRUNCATE: tables,
  RENAME: { ...tables, takes: keywordSet('TABLE', 'TABLES', 'USER') },
  LOCK: { ...tables, takes: keywordSet('TABLE', 'TABLES', 'INSTANCE') },
  UNLOCK: { mode: 'WORDS', words: 1 },
  ANALYZE: { ...maintenance, format: true },
  ANALYSE: maintenance,
  VACUUM: maintenance,
  OPTIMIZE: maintenance,
  CHECK: maintenance,
  REPAIR: maintenance,
  CHECKSUM: maintenance,
  CLUSTER: maintenance,
  EXPLAIN: explain,
  DESCRIBE: explain,
  DESC: explain,
  SHOW: { mode: 'WORDS', words: 4 },
  SET: {
    mode: 'TARGET',
    skips: 'variable',
    variable: true,
    collection: false,
    phrases: keywordSet('TIME', 'CHARACTER', 'DEFAULT', 'XML', 'RESOURCE'),
  },
  RESET: { ...named, phrases: keywordSet('TIME', 'SESSION', 'QUERY') },
  DISCARD: named,
  USE: named,
  LISTEN: named,
  UNLISTEN: named,
  NOTIFY: named,
  HANDLER: { mode: 'TARGET' },
  BEGIN: alone,
  END: alone,
  ABORT: alone,
  START: { mode: 'WORDS', words: 1 },
  COMMIT: { mode: 'WORDS', words: 1, keywordsOnly: true },
  // Names of savepoints, cursors and prepared statements are often made up at run time: they are left out.
  ROLLBACK: { mode: 'WORDS', words: 2, keywordsOnly: true },
  SAVEPOINT: alone,
  RELEASE: { mode: 'WORDS', words: 1, keywordsOnly: true },
  PREPARE: { mode: 'BODY' },
  DEALLOCATE: alone,
  DECLARE: { mode: 'BODY' },
  FETCH: alone,
  MOVE: alone,
  CLOSE: alone,
  COPY: { mode: 'TARGET', skips: 'copy' },
  LOAD: { mode: 'MARKED', marks: keywordSet('TABLE') },
  GRANT: { mode: 'MARKED', marks: keywordSet('ON'), last: true, collection: false },
  REVOKE: { mode: 'MARKED', marks: keywordSet('ON'), last: true, collection: false },
  DO: alone,
  XA: { mode: 'WORDS', words: 1 },
  FLUSH: { mode: 'WORDS', words: 1 },
};

const byNumber: (Start | undefined)[] = [];
for (const [word, start] of Object.entries(starts)) byNumber[K[word as Keyword]] = start;

/** How a statement that begins with this keyword goes on; undefined: nothing but the word is known. */
export function startOf(keyword: number): Start | undefined {
  return byNumber[keyword];
}
