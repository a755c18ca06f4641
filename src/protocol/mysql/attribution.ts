/**
 * Which results belong to which statement of one text. The protocol numbers neither: a text of several statements is answered by a row of
 * results, each an OK packet or a result set. Most statements have exactly one; a procedure, and a block of statements, has any number of result sets
 * and then an OK packet; what EXECUTE runs may be either ("Multi-Resultset", "CALL Statement").
 */

/** What a statement is answered with. */
export const Yields = {
  /** One result of either kind. */
  ONE: 0,
  /** One result set. */
  ROWS: 1,
  /** One OK packet. */
  OK: 2,
  /** Any number of result sets, then an OK packet. */
  CALL: 3,
  /** Not known: as ONE or as CALL. */
  ANY: 4,
} as const;

export type Yield = (typeof Yields)[keyof typeof Yields];

/** Results [from, to) are those of a statement. */
export interface Share {
  readonly from: number;
  readonly to: number;
}

export interface Attribution {
  /** Statements from the first that certainly ran to their end; undefined: which results are theirs cannot be proven. */
  readonly complete: readonly (Share | undefined)[];
  /** The statement behind them is the one that failed, with these results before the error; undefined: nobody can say which one did. */
  readonly failed: Share | undefined;
}

/**
 * Finds what holds for every way in which the statements can have been answered by these results.
 *
 * @param kinds of the statements, in their order
 * @param rows of each result in its order: true for a result set, false for an OK packet
 * @param error an error ended the text: it belongs to one statement, those behind it were not run
 * @returns no statement at all when there is no such way. Takes time that grows with statements times results squared.
 */
export function attribute(kinds: readonly Yield[], rows: readonly boolean[], error: boolean): Attribution {
  const before = reachable(kinds, rows);
  const after = completable(kinds, rows, error);
  const complete: (Share | undefined)[] = [];
  if (!after[0]![0]) return { complete, failed: undefined };
  for (let j = 0; j < kinds.length; j++) {
    const shares: Share[] = [];
    const failures: Share[] = [];
    for (let from = 0; from <= rows.length; from++) {
      if (!before[j]![from]) continue;
      for (let to = from + 1; to <= rows.length; to++) {
        if (after[j + 1]![to] && matches(kinds[j]!, rows, from, to)) shares.push({ from, to });
      }
      if (error && mayFail(kinds[j]!, rows, from)) failures.push({ from, to: rows.length });
    }
    if (failures.length > 0)
      return { complete, failed: shares.length + failures.length === 1 ? failures[0] : undefined };
    complete.push(shares.length === 1 ? shares[0] : undefined);
  }
  return { complete, failed: undefined };
}

/** Whether the results [from, to) can be all that one statement is answered with. */
function matches(kind: Yield, rows: readonly boolean[], from: number, to: number): boolean {
  const last = rows[to - 1]!;
  if (to - from === 1) return kind === Yields.ROWS ? last : kind === Yields.OK || kind === Yields.CALL ? !last : true;
  return (kind === Yields.CALL || kind === Yields.ANY) && !last && allRows(rows, from, to - 1);
}

/** Whether a statement can have failed after the results from there on. */
function mayFail(kind: Yield, rows: readonly boolean[], from: number): boolean {
  if (kind !== Yields.CALL && kind !== Yields.ANY) return from === rows.length;
  return allRows(rows, from, rows.length);
}

function allRows(rows: readonly boolean[], from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (!rows[at]) return false;
  return true;
}

/** [statement][result]: the statements before this one can have had the results before that one. */
function reachable(kinds: readonly Yield[], rows: readonly boolean[]): boolean[][] {
  const table = tableOf(kinds, rows);
  table[0]![0] = true;
  for (let j = 0; j < kinds.length; j++) {
    for (let from = 0; from < rows.length; from++) {
      if (!table[j]![from]) continue;
      for (let to = from + 1; to <= rows.length; to++) {
        if (matches(kinds[j]!, rows, from, to)) table[j + 1]![to] = true;
      }
    }
  }
  return table;
}

/** [statement][result]: this statement and those behind it can have had the results from that one on. */
function completable(kinds: readonly Yield[], rows: readonly boolean[], error: boolean): boolean[][] {
  const table = tableOf(kinds, rows);
  table[kinds.length]![rows.length] = !error;
  for (let j = kinds.length - 1; j >= 0; j--) {
    for (let from = 0; from <= rows.length; from++) {
      let found = error && mayFail(kinds[j]!, rows, from);
      for (let to = from + 1; to <= rows.length && !found; to++) {
        found = table[j + 1]![to]! && matches(kinds[j]!, rows, from, to);
      }
      table[j]![from] = found;
    }
  }
  return table;
}

function tableOf(kinds: readonly Yield[], rows: readonly boolean[]): boolean[][] {
  return Array.from({ length: kinds.length + 1 }, () => new Array<boolean>(rows.length + 1).fill(false));
}
