import { K, keywordSet } from './keywords.ts';
import { Token } from './lexer.ts';
import type { MysqlEffect, SqlStatement } from './statement.ts';

/** A statement with more tokens is not looked into: it may change anything of what its kind changes. */
const MAX_TOKENS = 128;

const { BEGIN, DATABASE, DEALLOCATE, DEFAULT, DROP, EXECUTE, EXISTS, FOR, FROM, IF, IMMEDIATE, NAMES, NOT } = K;
const { PREPARE, SCHEMA, SESSION, LOCAL, SET, USE, USING } = K;

/** Compound statements outside of routines (MariaDB). */
const blocks = keywordSet('IF', 'WHILE', 'LOOP', 'REPEAT', 'FOR', 'CASE', 'DECLARE');
const interesting = keywordSet('SET', 'USE', 'DROP', 'PREPARE', 'EXECUTE', 'DEALLOCATE', 'BEGIN');
const scopes = keywordSet('GLOBAL', 'PERSIST', 'PERSIST_ONLY', 'SESSION', 'LOCAL');
/** Functions of the server in what is assigned: no routine of a user, which could set something of its own. */
const BUILT_IN =
  /^(?:concat|concat_ws|replace|trim|lower|upper|if|ifnull|coalesce|cast|convert|select|names|in|and|or)$/i;
const GLOBAL_NAME = /^@@\s*(?:global|persist|persist_only)\b/;
const USER_VARIABLE = /^@(?!@)/;
const SIMPLE_STRING = /^(['"])([^'"\\]*)\1$/;
const PUNCTUATION = {
  semicolon: 0x3b,
  comma: 0x2c,
  open: 0x28,
  close: 0x29,
  equals: 0x3d,
  colon: 0x3a,
  dot: 0x2e,
} as const;

type TextOf = (start: number, end: number) => string;
/** What the text in a literal is as a statement; undefined when it is none, or when nobody can say. */
export type StatementOf = (text: string) => SqlStatement | undefined;

/**
 * Finds what a statement of MySQL changes for those after it on the connection: "SET Syntax", "USE Statement", "DROP DATABASE Statement", "Prepared
 * Statements" of the MySQL Reference Manual, "SET STATEMENT" and "EXECUTE IMMEDIATE" of MariaDB's documentation. Literals are looked into where they are names,
 * settings or statements.
 */
export class MysqlEffects {
  private readonly kinds = new Uint8Array(MAX_TOKENS);
  private readonly keywords = new Uint16Array(MAX_TOKENS);
  private readonly characters = new Uint8Array(MAX_TOKENS);
  private readonly starts = new Int32Array(MAX_TOKENS);
  private readonly ends = new Int32Array(MAX_TOKENS);
  private readonly statementOf: StatementOf;
  private tokens = 0;
  private overflow = false;
  private wanted = true;
  private hidden = false;
  private text: TextOf = () => '';

  constructor(statementOf: StatementOf) {
    this.statementOf = statementOf;
  }

  begin(): void {
    this.tokens = 0;
    this.overflow = false;
    this.wanted = true;
    this.hidden = false;
  }

  /** What comes is run by some servers, and passed over by others. It matters where the rest does not say what the statement is. */
  hide(): void {
    if (this.wanted) this.hidden = true;
  }

  /** Two statements with the same text but for their literals may differ. */
  get isWanted(): boolean {
    return this.wanted || this.hidden;
  }

  /** What this statement changes is not known. */
  doubt(): void {
    this.hidden = true;
  }

  token(kind: number, keyword: number, character: number, start: number, end: number): void {
    if (!this.wanted) return;
    if (this.tokens === 0) {
      this.wanted = interesting[keyword] === 1 || blocks[keyword] === 1;
      if (!this.wanted) return;
    }
    if (this.tokens === MAX_TOKENS) {
      this.overflow = true;
      return;
    }
    this.kinds[this.tokens] = kind;
    this.keywords[this.tokens] = keyword;
    this.characters[this.tokens] = character;
    this.starts[this.tokens] = start;
    this.ends[this.tokens++] = end;
  }

  /** Of the statement that has ended. `text` gives the characters of the statement's bytes. */
  result(text: TextOf): MysqlEffect | undefined {
    if (this.hidden) return { kind: 'anything' };
    if (!this.wanted || this.tokens < 2) return undefined;
    this.text = text;
    if (this.characters[this.tokens - 1] === PUNCTUATION.semicolon) this.tokens--;
    const first = this.keywords[0]!;
    switch (first) {
      case USE:
        return { kind: 'use', database: this.tokens === 2 ? this.name(1) : '' };
      case DROP:
        return this.drop();
      case DEALLOCATE:
        return { kind: 'deallocate_text', name: this.name(2) };
      case PREPARE:
        return {
          kind: 'prepare_text',
          name: this.name(1),
          runs: this.keywords[2] === FROM ? this.inner(3) : undefined,
        };
      case EXECUTE:
        if (this.keywords[1] === IMMEDIATE) return { kind: 'execute_text', name: '', runs: this.inner(2) };
        return { kind: 'execute_text', name: this.name(1), runs: undefined };
      case SET:
        return this.set();
      case BEGIN:
        return this.keywords[1] === NOT ? this.block() : undefined;
      default:
        return this.block();
    }
  }

  private block(): MysqlEffect {
    const within = this.keywords.subarray(0, this.tokens);
    const executes = this.overflow || within.includes(EXECUTE);
    return { kind: 'block', executes, sets: executes || within.includes(SET) };
  }

  /** DROP {DATABASE | SCHEMA} [IF EXISTS] name; DROP PREPARE name. */
  private drop(): MysqlEffect | undefined {
    const what = this.keywords[1];
    if (what === PREPARE) return { kind: 'deallocate_text', name: this.name(2) };
    if (what !== DATABASE && what !== SCHEMA) return undefined;
    const at = this.keywords[2] === IF && this.keywords[3] === EXISTS ? 4 : 2;
    return { kind: 'drop_database', database: this.tokens === at + 1 ? this.name(at) : '' };
  }

  /** The statement in a literal that is the rest of this one, or that USING follows. */
  private inner(at: number): SqlStatement | undefined {
    if (at >= this.tokens || this.kinds[at] !== Token.LITERAL) return undefined;
    if (at + 1 < this.tokens && this.keywords[at + 1] !== USING) return undefined;
    const written = this.tokenText(at);
    const quote = written[0];
    // Backslashes: what they mean depends on the session's mode.
    if ((quote !== "'" && quote !== '"') || written.includes('\\')) return undefined;
    return this.statementOf(written.slice(1, -1).replaceAll(quote + quote, quote));
  }

  /** SET STATEMENT variable = value, ... FOR statement; else assignments. */
  private set(): MysqlEffect | undefined {
    if (this.overflow) return { kind: 'set', encoding: '', mode: 'doubtful', tracking: true };
    if (this.tokenText(1).toLowerCase() === 'statement') {
      let at = 2;
      while (at < this.tokens && this.keywords[at] !== FOR) at++;
      const runs =
        at + 1 < this.tokens
          ? this.statementOf(this.text(this.starts[at + 1]!, this.ends[this.tokens - 1]!))
          : undefined;
      return { kind: 'set_statement', runs };
    }
    const found: Assigned = { encoding: undefined, mode: 'kept', tracking: false, global: false, routine: false };
    let depth = 0;
    let from = 1;
    for (let at = 1; at <= this.tokens; at++) {
      const character = at === this.tokens ? PUNCTUATION.comma : this.characters[at]!;
      if (character === PUNCTUATION.open) {
        depth++;
        found.routine ||= this.mayCallRoutine(at - 1);
      } else if (character === PUNCTUATION.close) depth--;
      else if (character === PUNCTUATION.comma && (depth === 0 || at === this.tokens)) {
        this.assignment(from, at, found);
        from = at + 1;
      }
    }
    // A routine among the values may have set the mode after this statement has.
    if (found.routine && found.mode === 'set') found.mode = 'doubtful';
    const { encoding, mode, tracking } = found;
    if (encoding === undefined && mode === 'kept' && !tracking && !found.routine) return undefined;
    return { kind: 'set', encoding, mode, tracking };
  }

  /** One assignment, tokens [from, to). */
  private assignment(from: number, to: number, found: Assigned): void {
    if (from >= to) return;
    const first = this.keywords[from]!;
    if (first === NAMES) {
      found.encoding = this.value(from + 1, to, true);
      return;
    }
    const word = this.tokenText(from).toLowerCase();
    if (word === 'charset' || (word === 'character' && this.keywords[from + 1] === SET)) {
      found.encoding = this.value(word === 'charset' ? from + 1 : from + 2, to, false);
      return;
    }
    let at = from;
    while (at < to && this.characters[at] !== PUNCTUATION.equals && this.characters[at] !== PUNCTUATION.colon) at++;
    const value = this.characters[at] === PUNCTUATION.colon ? at + 2 : at + 1;
    const scoped = scopes[first] === 1;
    const written = this.text(this.starts[from]!, this.ends[Math.max(from, at - 1)]!).toLowerCase();
    const global = scoped ? first !== SESSION && first !== LOCAL : GLOBAL_NAME.test(written);
    // "The most recent GLOBAL or SESSION keyword" may apply to what follows without one.
    const doubtful = !global && found.global;
    found.global ||= global;
    if (global || USER_VARIABLE.test(written)) return;
    const name = /(\w+)`?$/.exec(written)?.[1] ?? '';
    if (name === 'character_set_client') found.encoding = doubtful ? '' : this.value(value, to, false);
    else if (name === 'sql_mode') found.mode = doubtful || found.mode === 'doubtful' ? 'doubtful' : 'set';
    else if (name.startsWith('session_track')) found.tracking = true;
  }

  /** A character set by its name; empty when it is none that can be read. */
  private value(at: number, to: number, mayCollate: boolean): string {
    if (at >= to || this.keywords[at] === DEFAULT) return '';
    if (to - at > 1 && !(mayCollate && this.tokenText(at + 1).toLowerCase() === 'collate')) return '';
    const name =
      this.kinds[at] === Token.WORD || this.kinds[at] === Token.NAME || this.kinds[at] === Token.LITERAL
        ? this.name(at)
        : '';
    return /^\w+$/.test(name) ? name.toLowerCase() : '';
  }

  /** A name, quoted or not: under ANSI_QUOTES double quotes are those of names. Empty when it cannot be read. */
  private name(at: number): string {
    if (at >= this.tokens) return '';
    const written = this.tokenText(at);
    const kind = this.kinds[at];
    if (kind === Token.NAME) return written.slice(1, -1).replaceAll('``', '`');
    if (kind === Token.LITERAL) return SIMPLE_STRING.exec(written)?.[2] ?? '';
    return kind === Token.WORD ? written : '';
  }

  /** The token before an opening parenthesis names a function that may be one of a user. */
  private mayCallRoutine(at: number): boolean {
    if (!this.isName(at)) return false;
    const qualified = this.characters[at - 1] === PUNCTUATION.dot;
    return qualified || this.kinds[at] === Token.NAME || !BUILT_IN.test(this.tokenText(at));
  }

  private isName(at: number): boolean {
    return this.kinds[at] === Token.WORD || this.kinds[at] === Token.NAME;
  }

  private tokenText(at: number): string {
    return at < this.tokens ? this.text(this.starts[at]!, this.ends[at]!) : '';
  }
}

/** What the assignments of one SET have been found to do. */
interface Assigned {
  encoding: string | undefined;
  mode: 'kept' | 'set' | 'doubtful';
  tracking: boolean;
  /** An assignment before was of a global value. */
  global: boolean;
  /** A function that may be one of a user stands among the values. */
  routine: boolean;
}
