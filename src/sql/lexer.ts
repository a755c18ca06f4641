import { isUtf8 } from 'node:buffer';
import { K, keywordAt, keywordSet } from './keywords.ts';

/** What a token is. */
export const Token = {
  END: 0,
  SPACE: 1,
  /** To be left out of the text. */
  COMMENT: 2,
  /** An unquoted name or keyword. */
  WORD: 3,
  /** A quoted name. */
  NAME: 4,
  /** A value: a string, a number, a truth value. */
  LITERAL: 5,
  /** `?`, `$1`. */
  PLACEHOLDER: 6,
  /** MySQL: `@name`, `@@name`. */
  VARIABLE: 7,
  /** One character of anything else. */
  PUNCTUATION: 8,
  /** The begin or the end of a comment that is code (MySQL's conditional comments). */
  CODE_COMMENT: 9,
  /** Nobody can say what follows from here: no more tokens. */
  DOUBT: 10,
} as const;

/** What a backslash in a plain '...' literal means in the session: see the analyser. */
export type BackslashRule = 'escape' | 'literal' | 'unknown';

export const SPACE = 1;
export const DIGIT = 2;
export const WORD_START = 4;
export const WORD_PART = 8;

const { IS, NOT, TRUE, FALSE } = K;
/** Words behind which a sign belongs to the number that follows; behind any other it is an operator. */
const beforeSign = keywordSet(
  ...([
    'SELECT',
    'DISTINCT',
    'ALL',
    'VALUES',
    'WHERE',
    'HAVING',
    'AND',
    'OR',
    'XOR',
    'NOT',
    'IN',
    'IS',
    'BETWEEN',
  ] as const),
  ...([
    'SYMMETRIC',
    'LIKE',
    'ILIKE',
    'REGEXP',
    'RLIKE',
    'ESCAPE',
    'CASE',
    'WHEN',
    'THEN',
    'ELSE',
    'RETURN',
    'RETURNING',
  ] as const),
  ...([
    'LIMIT',
    'OFFSET',
    'FETCH',
    'BY',
    'ON',
    'SET',
    'TO',
    'DEFAULT',
    'FROM',
    'FOR',
    'AS',
    'WITH',
    'USING',
    'INTO',
  ] as const),
  ...(['INTERVAL', 'DIV', 'MOD', 'ANY', 'SOME', 'UNION'] as const),
);

/** Classes of bytes. Every byte of a multi-byte character is part of a word, in both dialects. */
export const classes = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) {
  const letter = (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || byte === 0x5f || byte >= 0x80;
  const digit = byte >= 0x30 && byte <= 0x39;
  if (letter) classes[byte] = WORD_START | WORD_PART;
  if (digit) classes[byte] = DIGIT | WORD_PART;
  if (byte === 0x24) classes[byte] = WORD_PART;
  if (byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)) classes[byte] = SPACE;
}

export const QUOTE = 0x27;
export const DOUBLE_QUOTE = 0x22;
export const BACKSLASH = 0x5c;
export const DOT = 0x2e;
const COMMA = 0x2c;
export const NEWLINE = 0x0a;

/**
 * Splits a text into tokens, one per call of next(). What both dialects share: names, signs, comments, truth values. A token is
 * described by the fields below, so that no object is made for it.
 */
export abstract class Lexer {
  protected bytes: Buffer = Buffer.alloc(0);
  /** The text is bytes[first..end). */
  protected first = 0;
  protected end = 0;
  protected backslash: BackslashRule = 'unknown';
  /** The token is bytes[start..position). */
  start = 0;
  position = 0;
  kind: number = Token.END;
  /** Of a WORD, else 0. */
  keyword = 0;
  /** Of PUNCTUATION: the byte, else 0. */
  character = 0;
  /** A sign that follows is an operator, not part of a number: what stands before it is an operand. */
  private afterOperand = false;
  /** After IS, IS NOT: TRUE and FALSE are no values. */
  private afterIs = false;
  /** The text is not valid UTF-8 as a whole: look at every token. */
  private checked = false;
  /** The literal may hold any bytes. */
  protected binary = false;

  begin(bytes: Buffer, start: number, end: number, backslash: BackslashRule, checked: boolean): void {
    this.bytes = bytes;
    this.first = start;
    this.position = start;
    this.end = end;
    this.backslash = backslash;
    this.checked = checked;
    this.afterOperand = false;
    this.afterIs = false;
    this.binary = false;
    this.kind = Token.END;
    this.keyword = 0;
    this.character = 0;
  }

  /** The session's rule may be another from here on. */
  loseBackslashRule(): void {
    this.backslash = 'unknown';
  }

  /** Reads the next token and returns its kind. */
  next(): number {
    if (this.kind === Token.DOUBT) return Token.DOUBT;
    this.start = this.position;
    this.keyword = 0;
    this.character = 0;
    if (this.position >= this.end) {
      this.kind = this.atEnd();
      return this.kind;
    }
    const kind = this.read(this.bytes[this.position]!);
    this.kind = this.checked ? this.verified(kind) : kind;
    if (kind > Token.COMMENT && kind !== Token.CODE_COMMENT) this.remember(kind);
    return this.kind;
  }

  /**
   * Moves over plain values, commas and white space without telling of them: for the inside of parentheses of which nothing is wanted
   * any more, such as the rows of a bulk INSERT.
   */
  skipValues(): void {
    if (this.checked || this.kind === Token.DOUBT) return;
    const { bytes, end } = this;
    let at = this.position;
    while (at < end) {
      const byte = bytes[at]!;
      if (byte === QUOTE) {
        this.start = at;
        this.position = at;
        if (this.read(byte) === Token.DOUBT) {
          this.kind = Token.DOUBT;
          return;
        }
        at = this.position;
      } else if ((classes[byte]! & (SPACE | DIGIT)) !== 0 || byte === COMMA) {
        at++;
      } else {
        break;
      }
    }
    this.position = at;
  }

  /** Reads one token that begins with this byte, and moves past it. */
  protected abstract read(byte: number): number;

  /** A comment that is code is open: no statement ends within it. */
  get insideConditional(): boolean {
    return false;
  }

  /** Some servers pass over what is read here: its words are no more public than those of a comment. */
  get hidesWords(): boolean {
    return false;
  }

  protected atEnd(): number {
    return Token.END;
  }

  private verified(kind: number): number {
    if (kind === Token.LITERAL && this.binary) return kind;
    return isUtf8(this.bytes.subarray(this.start, this.position)) ? kind : Token.DOUBT;
  }

  private remember(kind: number): void {
    const keyword = this.keyword;
    this.afterIs = keyword === IS || (this.afterIs && keyword === NOT);
    this.binary = false;
    if (kind === Token.WORD) {
      this.afterOperand = keyword === 0 || beforeSign[keyword] === 0;
      this.noteWord();
    } else if (kind === Token.PUNCTUATION) {
      this.afterOperand = this.character === 0x29 || this.character === 0x5d;
    } else {
      // After a literal a sign counts as its successor's: so do the published test cases of the conventions read 99+100.
      this.afterOperand = kind !== Token.LITERAL;
    }
  }

  protected noteWord(): void {}

  protected space(): number {
    const { bytes, end } = this;
    let at = this.position + 1;
    while (at < end && classes[bytes[at]!] === SPACE) at++;
    this.position = at;
    return Token.SPACE;
  }

  protected punctuation(byte: number): number {
    this.position++;
    this.character = byte;
    return Token.PUNCTUATION;
  }

  /** The end of the word that begins here. */
  protected wordEnd(from: number): number {
    const { bytes, end } = this;
    let at = from;
    while (at < end && (classes[bytes[at]!]! & WORD_PART) !== 0) at++;
    return at;
  }

  /** A word that is bytes[start..end): a keyword, a name, or a truth value. */
  protected word(end: number): number {
    this.position = end;
    const dotted = this.start > this.first && this.bytes[this.start - 1] === DOT;
    const keyword = dotted ? 0 : keywordAt(this.bytes, this.start, end);
    if ((keyword === TRUE || keyword === FALSE) && !this.afterIs) return Token.LITERAL;
    this.keyword = keyword;
    return Token.WORD;
  }

  /** Whether a number begins at this sign. */
  protected isSignOfNumber(at: number): boolean {
    if (this.afterOperand || at + 1 >= this.end) return false;
    const next = this.bytes[at + 1]!;
    return (classes[next]! & DIGIT) !== 0 || (next === DOT && this.isDigit(at + 2));
  }

  protected isDigit(at: number): boolean {
    return at < this.end && (classes[this.bytes[at]!]! & DIGIT) !== 0;
  }

  /** Moves past the digits from there on. */
  protected digitsEnd(from: number): number {
    let at = from;
    while (this.isDigit(at)) at++;
    return at;
  }

  /** The position behind the newline-less rest of the line. */
  protected lineEnd(from: number, carriageReturnEnds: boolean): number {
    const { bytes, end } = this;
    let at = from;
    while (at < end && bytes[at] !== NEWLINE && !(carriageReturnEnds && bytes[at] === 0x0d)) at++;
    return at;
  }

  /** A name or string between these quotes, a doubled one standing for itself, without any other escape. */
  protected quoted(open: number, quote: number, kind: number): number {
    const { bytes, end } = this;
    for (let at = open + 1; at < end; at++) {
      if (bytes[at] !== quote) continue;
      if (at + 1 < end && bytes[at + 1] === quote) {
        at++;
        continue;
      }
      this.position = at + 1;
      return kind;
    }
    return this.doubt();
  }

  /**
   * The same with backslashes. `rule` unknown: backslashes are read in pairs; as long as none escapes the quote, the literal ends
   * at the same place under both rules.
   */
  protected escaped(open: number, quote: number, rule: BackslashRule): number {
    if (rule === 'literal') return this.quoted(open, quote, Token.LITERAL);
    const { bytes, end } = this;
    for (let at = open + 1; at < end; at++) {
      const byte = bytes[at]!;
      if (byte === BACKSLASH) {
        at++;
        if (rule === 'unknown' && bytes[at] === quote) return this.doubt();
      } else if (byte === quote) {
        if (at + 1 < end && bytes[at + 1] === quote) {
          at++;
          continue;
        }
        this.position = at + 1;
        return Token.LITERAL;
      }
    }
    return this.doubt();
  }

  protected doubt(): number {
    this.position = this.end;
    return Token.DOUBT;
  }
}
