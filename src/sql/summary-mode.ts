/** What a level of parentheses waits for. */
export const Mode = {
  /** An expression, a list of columns: a SELECT begins a query, anything else is passed over. */
  EXPRESSION: 0,
  /** The first word of a statement or of a query. */
  START: 1,
  /** FROM. */
  LIST: 2,
  /** A target. */
  TARGET: 3,
  /** A dot, which continues the name of the target. */
  NAMED: 4,
  /** The next part of the target's name. */
  DOTTED: 5,
  /** The clauses behind the targets. */
  CLAUSES: 6,
  /** Names of common table expressions, up to the query they stand for. */
  CTE: 7,
  /** The kind of object: TABLE, VIEW. */
  OBJECT: 8,
  /** Options up to a statement: EXPLAIN. */
  OPTIONS: 9,
  /** AS or FOR, behind which a statement stands: PREPARE, DECLARE. */
  BODY: 10,
  /** Words that belong to the operation: SHOW. */
  WORDS: 11,
  /** A word of a given set, then a target: INTO (LOAD DATA), ON (GRANT). */
  MARKED: 12,
  /** The rest says nothing. */
  DONE: 13,
  /** Words of which the last is the target, up to TO or FROM: GRANT ... ON FOREIGN SERVER name. */
  LAST: 14,
} as const;
