import { isUtf8 } from 'node:buffer';
import type { MemoryBudget } from '../memory/budget.ts';
import { Blocks } from './blocks.ts';
import { type TraceContext, traceContextOf } from './commenter.ts';
import { Effects } from './effect.ts';
import { K, keywordSet } from './keywords.ts';
import { type BackslashRule, type Lexer, Token } from './lexer.ts';
import { MysqlLexer } from './mysql-lexer.ts';
import { PostgresLexer } from './postgres-lexer.ts';
import { agreedEncoding } from './reading.ts';
import { Sanitiser } from './sanitiser.ts';
import { SharedStatements } from './shared-statements.ts';
import type { SqlDialect, SqlStatement } from './statement.ts';
import { Summary } from './summary.ts';

export interface ScannerOptions {
  readonly dialect: SqlDialect;
  readonly maxTextBytes: number;
  readonly rawText: boolean;
  readonly ignore: readonly RegExp[];
  readonly sharedStatements: number;
  /** What those may cost. */
  readonly sharedBytes: number;
  readonly memory?: MemoryBudget | undefined;
}

/** What one text holds. */
export interface Scanned {
  readonly statements: readonly SqlStatement[];
  /** Where each of them ends, in characters from the beginning of the text; when there are several. */
  readonly ends: readonly number[];
  /** Read to its end without doubt. */
  readonly sure: boolean;
}

/** A statement of which nothing may be said. */
export const UNKNOWN: SqlStatement = {
  text: '',
  truncated: false,
  summary: '',
  operation: '',
  collection: '',
  storedProcedure: '',
  traceparent: '',
  tracestate: '',
  ignored: false,
  effect: { kind: 'unknown' },
};

/** Alike in all statements that have the same text with literals replaced. */
function isConstant(effect: SqlStatement['effect']): boolean {
  return effect === undefined || effect.kind === 'unknown';
}

/**
 * MySQL comes to the second statement of a text when the first has been run. These leave the rules of reading as they are: whatever a
 * routine or trigger sets of them is restored behind it (sp_head::execute).
 */
const keepsRules = keywordSet(
  ...([
    'SELECT',
    'INSERT',
    'UPDATE',
    'DELETE',
    'REPLACE',
    'WITH',
    'VALUES',
    'TABLE',
    'START',
    'COMMIT',
    'ROLLBACK',
  ] as const),
  ...([
    'SAVEPOINT',
    'RELEASE',
    'CREATE',
    'ALTER',
    'DROP',
    'TRUNCATE',
    'RENAME',
    'LOCK',
    'UNLOCK',
    'SHOW',
    'USE',
    'LOAD',
  ] as const),
  ...(['ANALYZE', 'OPTIMIZE', 'CHECK', 'REPAIR', 'EXPLAIN', 'DESCRIBE', 'DESC', 'GRANT', 'REVOKE', 'PREPARE'] as const),
  ...(['DEALLOCATE', 'HANDLER', 'FLUSH', 'DO', 'CALL'] as const),
);

/** SET of sql_mode, SET NAMES, SET CHARACTER SET, SET character_set_client, under their names, which have no other spelling. */
const SETS_RULES = /sql_mode|names|char/i;

const SEMICOLON = 0x3b;
const COMMA = 0x2c;
const OPEN = 0x28;

/** Reads a text once from its beginning to its end and says what its statements are. Time is linear, memory is bounded by the output. */
export class Scanner {
  private readonly options: ScannerOptions;
  private readonly lexer: Lexer;
  private readonly sanitiser: Sanitiser;
  private readonly summary: Summary;
  private readonly blocks: Blocks;
  private readonly effects: Effects;
  /** Reads statements that stand in literals. */
  private inner: Scanner | undefined;
  private readonly shared: SharedStatements;
  private bytes: Buffer = Buffer.alloc(0);
  private latin1 = false;
  private context: TraceContext | undefined;
  /** Tokens of the statement so far, where its text as written begins, and where it ends. */
  private tokens = 0;
  private firstKeyword = 0;
  private rawStart = 0;
  private rawEnd = 0;
  private readonly text = (start: number, end: number) => this.decode(this.bytes, start, end);

  constructor(options: ScannerOptions) {
    this.options = options;
    this.lexer = options.dialect === 'postgresql' ? new PostgresLexer() : new MysqlLexer();
    this.sanitiser = new Sanitiser(options.dialect, options.maxTextBytes);
    this.summary = new Summary(options.dialect);
    this.blocks = new Blocks(options.dialect);
    this.effects = new Effects(options.dialect, (text) => this.statementOf(text));
    this.shared = new SharedStatements(options.sharedStatements, options.sharedBytes, options.memory);
  }

  /** @param split false: the text is one statement, whatever semicolons it has */
  scan(bytes: Buffer, start: number, end: number, latin1: boolean, backslash: BackslashRule, split: boolean): Scanned {
    const statements: SqlStatement[] = [];
    const lexer = this.lexer;
    this.bytes = bytes;
    this.latin1 = latin1;
    this.backslash = backslash;
    this.ends = [];
    this.context = undefined;
    lexer.begin(bytes, start, end, backslash, !latin1 && !isUtf8(bytes.subarray(start, end)));
    this.beginStatement(start);
    let sure = true;
    for (;;) {
      const kind = lexer.next();
      if (kind === Token.SPACE) {
        this.sanitiser.output.space(bytes, lexer.start, lexer.position);
      } else if (kind === Token.COMMENT) {
        this.comment(statements);
      } else if (kind === Token.END || kind === Token.DOUBT) {
        sure = kind === Token.END;
        break;
      } else if (split && lexer.character === SEMICOLON && this.blocks.ends && !this.conditionalSemicolon()) {
        const keeps = this.keepsRules();
        this.endStatement(statements);
        if (!keeps && this.losesEncoding(end)) {
          sure = false;
          break;
        }
      } else {
        this.token(kind);
      }
    }
    this.lastStatement(statements, sure, end);
    this.readPrepared(statements);
    this.bytes = UNREFERENCED;
    const { ends } = this;
    // The last one has all that follows.
    const several = statements.length > 1 && ends.length >= statements.length - 1;
    return { statements, ends: several ? inCharacters(bytes, start, ends, latin1) : NO_ENDS, sure };
  }

  /** What PREPARE names are statements in their own right; one within another is none. */
  private readPrepared(statements: SqlStatement[]): void {
    if (this.prepared.length === 0 || this.withinPrepared) return;
    const { prepared, bytes, latin1, backslash } = this;
    this.withinPrepared = true;
    for (const { index, start, end } of prepared) {
      const known = statements[index]!;
      if (known.effect?.kind !== 'prepare') continue;
      const statement = this.scan(bytes, start, end, latin1, backslash, false).statements[0];
      statements[index] = { ...known, effect: { ...known.effect, statement } };
    }
    this.withinPrepared = false;
    this.prepared = [];
  }

  private beginStatement(at: number): void {
    this.sanitiser.begin();
    this.summary.begin(this.bytes);
    this.blocks.begin();
    this.effects.begin();
    this.tokens = 0;
    this.rawStart = at;
  }

  private token(kind: number): void {
    const { keyword, character, start, position } = this.lexer;
    // A trailing semicolon of a text that is one statement makes none by itself.
    if (character === SEMICOLON && this.tokens === 0) return;
    if (this.tokens++ === 0) this.firstKeyword = this.lexer.hidesWords ? 0 : keyword;
    this.rawEnd = position;
    if (kind === Token.CODE_COMMENT) {
      this.sanitiser.output.append(this.bytes, start, position);
      this.tokens--;
      return;
    }
    if (this.lexer.hidesWords) {
      this.hidden(kind, character);
      return;
    }
    const full = this.sanitiser.isFull;
    const shown = full ? kind : this.sanitiser.token(kind, keyword, character, this.bytes, start, position);
    this.blocks.token(kind, keyword, character);
    this.summary.token(shown, keyword, character, start, position);
    this.effects.token(kind, keyword, character, this.bytes, start, position);
    if (full && (character === OPEN || character === COMMA) && this.summary.passesValues) this.lexer.skipValues();
  }

  /** A token of a comment that some servers run: only its punctuation shows. */
  private hidden(kind: number, character: number): void {
    const { start, position } = this.lexer;
    this.effects.hide();
    const shown = character === 0 ? Token.LITERAL : kind;
    if (!this.sanitiser.isFull) this.sanitiser.token(shown, 0, character, this.bytes, start, position);
    this.summary.token(shown, 0, character, start, position);
  }

  /** A semicolon in a comment that is code ends no statement here, though it does for servers that run it. */
  private conditionalSemicolon(): boolean {
    if (!this.lexer.insideConditional) return false;
    this.effects.doubt();
    return true;
  }

  private statementOf(text: string): SqlStatement | undefined {
    this.inner ??= new Scanner({ ...this.options, sharedStatements: 1 });
    const bytes = Buffer.from(text);
    const { statements, sure } = this.inner.scan(bytes, 0, bytes.length, false, 'unknown', false);
    return sure ? statements[0] : undefined;
  }

  private comment(statements: SqlStatement[]): void {
    this.sanitiser.output.comment();
    const context = traceContextOf(this.bytes, this.lexer.start, this.lexer.position);
    if (context === undefined) return;
    // Behind the last semicolon it still belongs to the statement before: that is reported when no other follows.
    if (this.tokens > 0 || statements.length === 0) this.context = context;
    else this.trailing = context;
  }

  private trailing: TraceContext | undefined;
  /** Positions behind the statements that have ended. */
  private ends: number[] = [];
  private backslash: BackslashRule = 'unknown';
  /** Statements that PREPARE names, by the place of that among the statements of the text. */
  private prepared: { index: number; start: number; end: number }[] = [];
  private withinPrepared = false;

  private endStatement(statements: SqlStatement[]): void {
    const { start, position } = this.lexer;
    if (this.tokens > 0) {
      this.rawEnd = position;
      this.sanitiser.output.append(this.bytes, start, position);
      this.adoptTrailing();
      statements.push(this.statement(statements.length));
      this.ends.push(position);
    }
    this.context = undefined;
    this.beginStatement(position);
  }

  /** Whether the statement that ends here leaves the rules by which the next one is read. PostgreSQL reads a text before it runs it. */
  private keepsRules(): boolean {
    if (this.options.dialect !== 'mysql' || this.tokens === 0) return true;
    // BEGIN [WORK], not BEGIN NOT ATOMIC.
    if (this.firstKeyword === K.BEGIN) return this.tokens <= 2;
    if (this.firstKeyword !== K.SET) return keepsRules[this.firstKeyword] === 1;
    return !SETS_RULES.test(this.bytes.toString('latin1', this.rawStart, this.lexer.start));
  }

  /** The rest is read by rules that are not known. @returns whether not even where its characters end is certain */
  private losesEncoding(end: number): boolean {
    this.lexer.loseBackslashRule();
    return agreedEncoding(this.bytes, this.lexer.position, end) === 'unsafe';
  }

  /** A comment between two statements belongs to the second. */
  private adoptTrailing(): void {
    this.context ??= this.trailing;
    this.trailing = undefined;
  }

  private lastStatement(statements: SqlStatement[], sure: boolean, end: number): void {
    if (sure && this.tokens > 0) {
      this.adoptTrailing();
      statements.push(this.statement(statements.length));
    } else if (!sure) {
      this.rawEnd = end;
      this.trailing = undefined;
      statements.push(this.doubtful());
    }
    const last = statements.at(-1);
    if (this.trailing !== undefined && last !== undefined && last.traceparent === '') {
      statements[statements.length - 1] = { ...last, ...this.trailing };
    }
    this.trailing = undefined;
  }

  private statement(index: number): SqlStatement {
    const output = this.sanitiser.output;
    const effect = this.effects.result(this.text);
    if (effect?.kind === 'prepare' && this.effects.bodyStart >= 0 && !this.withinPrepared) {
      this.prepared.push({ index, start: this.effects.bodyStart, end: this.rawEnd });
    }
    const length = output.wholeLength();
    const sharable =
      isConstant(effect) && !this.effects.dependsOnLiterals && !output.truncated && !this.options.rawText;
    const known = sharable ? this.shared.find(output.bytes, length, this.latin1) : undefined;
    const made = known ?? this.make(this.decode(output.bytes, 0, length), output.truncated, effect);
    if (sharable && known === undefined) this.shared.add(output.bytes, length, this.latin1, made);
    return this.context === undefined ? made : { ...made, ...this.context };
  }

  private make(text: string, truncated: boolean, effect: SqlStatement['effect']): SqlStatement {
    const { summary, operation, collection, storedProcedure } = this.summary.build(this.text);
    const ignored = this.isIgnored(text === '' ? summary : text);
    const shown = this.options.rawText ? this.raw() : this.cut(text, truncated);
    return {
      ...shown,
      summary,
      operation,
      collection,
      storedProcedure,
      traceparent: '',
      tracestate: '',
      ignored,
      effect,
    };
  }

  /** What was read before the doubt is certain: the summary may say it. The text is not whole, so none leaves. */
  private doubtful(): SqlStatement {
    const made = this.make('', false, UNKNOWN.effect);
    return this.context === undefined ? made : { ...made, ...this.context };
  }

  private isIgnored(text: string): boolean {
    for (const pattern of this.options.ignore) if (pattern.test(text)) return true;
    return false;
  }

  /** The text as it was written, when that is asked for. */
  private raw(): { text: string; truncated: boolean } {
    const max = this.options.maxTextBytes;
    let from = this.rawStart;
    while (from < this.rawEnd && this.bytes[from]! <= 0x20) from++;
    const to = Math.min(this.rawEnd, from + max);
    const truncated = to < this.rawEnd;
    let whole = to;
    while (!this.latin1 && truncated && whole > from && (this.bytes[whole]! & 0xc0) === 0x80) whole--;
    return this.cut(this.decode(this.bytes, from, whole), truncated);
  }

  /** Characters of latin1 take two bytes in UTF-8. */
  private cut(text: string, truncated: boolean): { text: string; truncated: boolean } {
    if (!this.latin1 || Buffer.byteLength(text) <= this.options.maxTextBytes) return { text, truncated };
    const bytes = Buffer.from(text);
    let to = this.options.maxTextBytes;
    while (to > 0 && (bytes[to]! & 0xc0) === 0x80) to--;
    return { text: bytes.toString('utf8', 0, to), truncated: true };
  }

  private decode(bytes: Buffer, start: number, end: number): string {
    return bytes.toString(this.latin1 ? 'latin1' : 'utf8', start, end);
  }
}

const UNREFERENCED = Buffer.alloc(0);
const NO_ENDS: readonly number[] = [];

/** Positions in bytes as numbers of characters from `start` on. */
function inCharacters(bytes: Buffer, start: number, positions: readonly number[], latin1: boolean): number[] {
  let at = start;
  let characters = 0;
  return positions.map((position) => {
    for (; at < position; at++) if (latin1 || (bytes[at]! & 0xc0) !== 0x80) characters++;
    return characters;
  });
}
