import type { Account, MemoryBudget } from '../memory/budget.ts';
import { statementCost } from '../memory/cost.ts';
import { count, type ReasonCounts } from '../telemetry/counters.ts';
import { type TraceContext, traceContextOf } from './commenter.ts';
import type { BackslashRule } from './lexer.ts';
import type { SqlLimits } from './limits.ts';
import type { TextEncoding } from './reading.ts';
import { type Scanned, Scanner, UNKNOWN } from './scanner.ts';
import type { SqlDialect, SqlStatement } from './statement.ts';
import { TextTable } from './text-table.ts';

export type { BackslashRule } from './lexer.ts';
export type { TextEncoding } from './reading.ts';

export interface SqlAnalyserOptions {
  readonly dialect: SqlDialect;
  /** Bytes (UTF-8) that a statement's text is cut to. */
  readonly maxTextBytes: number;
  /** Texts leave as they were written. */
  readonly rawText: boolean;
  /** A statement is ignored when one of them matches its text with literals replaced, or its summary when it has no text. */
  readonly ignore: readonly RegExp[];
  /** Distinct texts that are remembered, and the longest text that is. */
  readonly cacheEntries?: number;
  readonly cacheTextBytes?: number;
  /** What those texts and their statements may cost. */
  readonly cacheBytes?: number;
  readonly memory?: MemoryBudget | undefined;
  /** Counts texts whose statements were not separated to their end: `doubtful`, `unsafe_encoding`. */
  readonly counts?: ReasonCounts;
}

/** `sql` of the configuration has these keys. */
export type SqlTextOptions = Pick<SqlAnalyserOptions, 'maxTextBytes' | 'rawText' | 'ignore'>;

/**
 * @param limits of the cache
 * @param counts counts the texts that did not leave, by why
 */
export function createSqlAnalyser(
  dialect: SqlDialect,
  { maxTextBytes, rawText, ignore }: SqlTextOptions,
  limits: Pick<SqlLimits, 'sqlCachedTexts' | 'sqlCachedTextBytes' | 'sqlCacheBytes'>,
  counts: ReasonCounts,
  memory?: MemoryBudget,
): SqlAnalyser {
  const { sqlCachedTexts: cacheEntries, sqlCachedTextBytes: cacheTextBytes, sqlCacheBytes: cacheBytes } = limits;
  const cache = { cacheEntries, cacheTextBytes, cacheBytes };
  return new SqlAnalyser({ dialect, maxTextBytes, rawText, ignore, ...cache, counts, memory });
}

/** What the cache holds at most: so many texts of so many bytes, each with the statements it has. */
const DEFAULT_CACHE_ENTRIES = 2048;
const DEFAULT_CACHE_TEXT_BYTES = 8192;
const DEFAULT_CACHE_BYTES = 16 * 1024 * 1024;
/** Texts seen once: a text is remembered when it comes again, else texts that never do would push out those that always do. */
const SEEN_ONCE = 4096;

const backslashSeeds = { escape: 0, literal: 1, unknown: 2 } as const;
const NO_STATEMENTS: Scanned = { statements: [], ends: [], sure: true };
const UNSAFE: Scanned = { statements: [UNKNOWN], ends: [], sure: false };

/** Finds out what may be said of SQL texts, once per distinct text. One per dialect and configuration serves all connections. */
export class SqlAnalyser {
  private readonly scanner: Scanner;
  private readonly table: TextTable<Scanned>;
  private readonly cacheTextBytes: number;
  private readonly counts: ReasonCounts;
  private readonly seen = new Uint32Array(SEEN_ONCE);

  constructor(options: SqlAnalyserOptions) {
    const entries = options.cacheEntries ?? DEFAULT_CACHE_ENTRIES;
    // One half for texts as they come, one for those with literals replaced.
    const maxBytes = (options.cacheBytes ?? DEFAULT_CACHE_BYTES) / 2;
    const { memory } = options;
    this.scanner = new Scanner({
      ...options,
      // A pattern with the g or y flag would remember where it matched last.
      ignore: options.ignore.map((pattern) => new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, ''))),
      sharedStatements: entries,
      sharedBytes: maxBytes,
    });
    this.table = new TextTable({
      entries,
      maxBytes,
      memory,
      costOf: scannedCost,
      keep: keepScanned,
      letGo: letScannedGo,
    });
    this.counts = options.counts ?? {};
    this.cacheTextBytes = options.cacheTextBytes ?? DEFAULT_CACHE_TEXT_BYTES;
  }

  /**
   * Splits a text into its statements and analyses each. Never throws.
   * @param bytes the text is bytes[start..end) without a terminator; borrowed for the call
   * @param backslash what the session said last, see BackslashRule
   * @returns the statements in source order, empty ones left out; [] when there are none (only comments and semicolons). Of a text
   *   that becomes doubtful the last statement is what can no longer be separated.
   */
  analyse(
    bytes: Buffer,
    start: number,
    end: number,
    encoding: TextEncoding,
    backslash: BackslashRule = 'unknown',
  ): readonly SqlStatement[] {
    return this.analyseText(bytes, start, end, encoding, backslash).statements;
  }

  /** The same, with where each statement ends. */
  analyseText(bytes: Buffer, start: number, end: number, encoding: TextEncoding, backslash: BackslashRule): Scanned {
    if (encoding === 'unsafe') return this.unsafe(start < end);
    return this.cached(bytes, start, end, encoding === 'latin1', backslash, true);
  }

  /** The same of a text that the protocol says is exactly one statement (Parse, COM_STMT_PREPARE): it is never split. */
  analyseOne(
    bytes: Buffer,
    start: number,
    end: number,
    encoding: TextEncoding,
    backslash: BackslashRule = 'unknown',
  ): SqlStatement | undefined {
    if (encoding === 'unsafe') return this.unsafe(start < end).statements[0];
    return this.cached(bytes, start, end, encoding === 'latin1', backslash, false).statements[0];
  }

  private unsafe(any: boolean): Scanned {
    if (!any) return NO_STATEMENTS;
    count(this.counts, 'unsafe_encoding');
    return UNSAFE;
  }

  private cached(
    bytes: Buffer,
    start: number,
    end: number,
    latin1: boolean,
    backslash: BackslashRule,
    split: boolean,
  ): Scanned {
    const seed = backslashSeeds[backslash] * 4 + (latin1 ? 2 : 0) + (split ? 1 : 0);
    const comment = trailingComment(bytes, start, end);
    if (comment > start) {
      // A text that was read without doubt ends outside of everything or in the comment of a line: what follows is a comment indeed.
      const before = this.lookUp(bytes, start, comment, seed, latin1, backslash, split);
      if (before.sure) return withContext(before, traceContextOf(bytes, comment, end));
    }
    const scanned = this.lookUp(bytes, start, end, seed, latin1, backslash, split);
    if (!scanned.sure) count(this.counts, 'doubtful');
    return scanned;
  }

  private lookUp(
    bytes: Buffer,
    start: number,
    end: number,
    seed: number,
    latin1: boolean,
    backslash: BackslashRule,
    split: boolean,
  ): Scanned {
    if (end - start > this.cacheTextBytes) return this.scanner.scan(bytes, start, end, latin1, backslash, split);
    const hash = this.table.hash(bytes, start, end, seed);
    const known = this.table.find(hash, seed, bytes, start, end);
    if (known !== undefined) return known;
    const scanned = this.scanner.scan(bytes, start, end, latin1, backslash, split);
    const place = (hash >>> 8) & (SEEN_ONCE - 1);
    if (this.seen[place] === hash) this.table.add(hash, seed, bytes, start, end, scanned);
    else this.seen[place] = hash;
    return scanned;
  }
}

const STATEMENTS_COST = 96;

/** What a text's statements cost, if nothing else holds them. */
function scannedCost({ statements }: Scanned): number {
  let cost = STATEMENTS_COST + 8 * statements.length;
  for (const statement of statements) cost += statementCost(statement);
  return cost;
}

function keepScanned({ statements }: Scanned, account: Account): number {
  for (const statement of statements) account.retain(statement, statementCost(statement));
  return STATEMENTS_COST + 8 * statements.length;
}

function letScannedGo({ statements }: Scanned, account: Account): number {
  for (const statement of statements) account.release(statement, statementCost(statement));
  return STATEMENTS_COST + 8 * statements.length;
}

function withContext(scanned: Scanned, context: TraceContext | undefined): Scanned {
  const { statements } = scanned;
  const last = statements.at(-1);
  if (context === undefined || last === undefined) return scanned;
  return { ...scanned, statements: [...statements.slice(0, -1), { ...last, ...context }] };
}

/**
 * Where the comment begins that a text seems to end with, -1 when it does not: sqlcommenter puts one of its own at the end of every
 * text, which must not make each text a new one.
 */
function trailingComment(bytes: Buffer, start: number, end: number): number {
  let at = end - 1;
  while (at > start && bytes[at]! <= 0x20) at--;
  if (at < start + 4 || bytes[at] !== 0x2f || bytes[at - 1] !== 0x2a) return -1;
  for (let open = at - 3; open >= start; open--) {
    // Another end of a comment before its begin, or the end of a line, which may end a comment that began earlier: not this simple form.
    if (bytes[open] === 0x2a && bytes[open + 1] === 0x2f) return -1;
    if (bytes[open] === 0x0a || bytes[open] === 0x0d) return -1;
    if (bytes[open] !== 0x2f || bytes[open + 1] !== 0x2a) continue;
    const marker = bytes[open + 2];
    return marker === 0x21 || marker === 0x4d ? -1 : open;
  }
  return -1;
}
