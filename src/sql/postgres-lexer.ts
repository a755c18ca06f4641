import {
  type BackslashRule,
  classes,
  DIGIT,
  DOT,
  DOUBLE_QUOTE,
  Lexer,
  NEWLINE,
  QUOTE,
  SPACE,
  Token,
  WORD_PART,
  WORD_START,
} from './lexer.ts';

const DOLLAR = 0x24;

/** PostgreSQL's rules: "SQL Syntax", "Lexical Structure", and src/backend/parser/scan.l where that leaves a question. */
export class PostgresLexer extends Lexer {
  protected read(byte: number): number {
    const kind = classes[byte]!;
    if ((kind & WORD_START) !== 0) return this.wordOrPrefix(byte | 0x20);
    if (kind === SPACE) return this.space();
    if ((kind & DIGIT) !== 0) return this.number(this.position);
    switch (byte) {
      case 0:
        return this.doubt();
      case QUOTE:
        return this.string(this.position, this.backslash);
      case DOUBLE_QUOTE:
        return this.quoted(this.position, DOUBLE_QUOTE, Token.NAME);
      case DOLLAR:
        return this.dollar();
      case DOT:
        return this.isDigit(this.position + 1) ? this.number(this.position) : this.punctuation(byte);
      case 0x2d:
        if (this.bytes[this.position + 1] === 0x2d && this.position + 1 < this.end) return this.lineComment();
        return this.isSignOfNumber(this.position) ? this.number(this.position + 1) : this.punctuation(byte);
      case 0x2b:
        return this.isSignOfNumber(this.position) ? this.number(this.position + 1) : this.punctuation(byte);
      case 0x2f:
        if (this.bytes[this.position + 1] === 0x2a && this.position + 1 < this.end) return this.blockComment();
        return this.punctuation(byte);
      case 0x3f:
        this.position++;
        return Token.PLACEHOLDER;
      default:
        return this.punctuation(byte);
    }
  }

  /** E'..', B'..', X'..', N'..', U&'..', U&".." or a word. */
  private wordOrPrefix(first: number): number {
    const at = this.position + 1;
    const second = at < this.end ? this.bytes[at]! : 0;
    if (second === QUOTE) {
      if (first === 0x65) return this.string(at, 'escape');
      if (first === 0x62 || first === 0x78) return this.bits(at);
      if (first === 0x6e) return this.string(at, this.backslash);
    }
    if (first === 0x75 && second === 0x26 && at + 1 < this.end) {
      const third = this.bytes[at + 1]!;
      // With standard_conforming_strings off the server refuses it: then what its author took for its end is not known.
      if (third === QUOTE) return this.string(at + 1, this.backslash === 'literal' ? 'literal' : 'unknown');
      if (third === DOUBLE_QUOTE) return this.quoted(at + 1, DOUBLE_QUOTE, Token.NAME);
    }
    return this.word(this.wordEnd(at));
  }

  /** "String Constants": those that only white space with a newline separates are one, and follow the rules of the first. */
  private string(open: number, rule: BackslashRule): number {
    let from = open;
    for (;;) {
      if (this.escaped(from, QUOTE, rule) === Token.DOUBT) return Token.DOUBT;
      from = this.continuation(this.position);
      if (from < 0) return Token.LITERAL;
    }
  }

  /** B'..', X'..': no quote stands for itself in them, a second one begins the next string. */
  private bits(open: number): number {
    const { bytes, end } = this;
    for (let at = open + 1; at < end; at++) {
      if (bytes[at] !== QUOTE) continue;
      const next = this.continuation(at + 1);
      if (next < 0) {
        this.position = at + 1;
        return Token.LITERAL;
      }
      at = next;
    }
    return this.doubt();
  }

  /** Where the string goes on behind its quote, -1 when it does not. */
  private continuation(from: number): number {
    const { bytes, end } = this;
    let at = from;
    let newline = false;
    while (at < end) {
      const byte = bytes[at]!;
      if (classes[byte] === SPACE) {
        newline ||= byte === NEWLINE || byte === 0x0d;
        at++;
      } else if (byte === 0x2d && bytes[at + 1] === 0x2d) {
        at = this.lineEnd(at, true);
      } else {
        return byte === QUOTE && newline ? at : -1;
      }
    }
    return -1;
  }

  /** A parameter or a dollar-quoted string. */
  private dollar(): number {
    const { bytes, end } = this;
    const from = this.position + 1;
    if (this.isDigit(from)) {
      this.position = this.digitsEnd(from);
      return Token.PLACEHOLDER;
    }
    let at = from;
    while (at < end && bytes[at] !== DOLLAR && (classes[bytes[at]!]! & WORD_PART) !== 0) at++;
    if (at >= end || bytes[at] !== DOLLAR) return this.doubt();
    const delimiter = bytes.subarray(this.position, at + 1);
    const close = bytes.subarray(at + 1, end).indexOf(delimiter);
    if (close < 0) return this.doubt();
    this.position = at + 1 + close + delimiter.length;
    return Token.LITERAL;
  }

  /** Everything that sticks to a digit is taken as part of the number: `1_000`, `0x1F`, `1e5`, and what is an error. */
  private number(from: number): number {
    const { bytes, end } = this;
    let at = from;
    let fraction = false;
    while (at < end) {
      const byte = bytes[at]!;
      if ((classes[byte]! & WORD_PART) !== 0 && byte < 0x80 && byte !== DOLLAR) {
        at++;
        if ((byte | 0x20) === 0x65 && (bytes[at] === 0x2b || bytes[at] === 0x2d) && this.isExponent(from, at)) at++;
      } else if (byte === DOT && !fraction) {
        fraction = true;
        at++;
      } else {
        break;
      }
    }
    this.position = at;
    return Token.LITERAL;
  }

  /** The e before this sign makes an exponent: digits follow, and the number is not hexadecimal. */
  private isExponent(from: number, sign: number): boolean {
    return this.isDigit(sign + 1) && (this.bytes[from + 1]! | 0x20) !== 0x78;
  }

  private lineComment(): number {
    this.position = this.lineEnd(this.position, true);
    return Token.COMMENT;
  }

  /** Block comments nest. */
  private blockComment(): number {
    const { bytes, end } = this;
    let depth = 0;
    for (let at = this.position; at + 1 < end; at++) {
      const byte = bytes[at]!;
      if (byte === 0x2f && bytes[at + 1] === 0x2a) {
        depth++;
        at++;
      } else if (byte === 0x2a && bytes[at + 1] === 0x2f) {
        depth--;
        at++;
        if (depth === 0) {
          this.position = at + 1;
          return Token.COMMENT;
        }
      }
    }
    return this.doubt();
  }
}
