import {
  BACKSLASH,
  type BackslashRule,
  classes,
  DIGIT,
  DOT,
  DOUBLE_QUOTE,
  Lexer,
  QUOTE,
  SPACE,
  Token,
  WORD_PART,
  WORD_START,
} from './lexer.ts';

const BACKTICK = 0x60;
const CLOSE = Buffer.from('*/');
/** Every server in use runs what is for versions below (MySQL 5.7); MariaDB passes over what is for MySQL from there on. */
const RUN_BELOW = 50_700;
/** No server has a version from there on. */
const NEVER_FROM = 99_000;

/**
 * MySQL's and MariaDB's rules: "Language Structure" of the MySQL Reference Manual. Under ANSI_QUOTES "x" is a name; it is always
 * taken as a string here, which costs a name and can reveal nothing.
 */
export class MysqlLexer extends Lexer {
  /** Within a comment that is code. */
  private conditional = false;
  /** Whether the server runs it is not certain. */
  private hidden = false;

  override get insideConditional(): boolean {
    return this.conditional;
  }

  override get hidesWords(): boolean {
    return this.hidden;
  }

  private binaryIntroducer = false;

  override begin(bytes: Buffer, start: number, end: number, backslash: BackslashRule, checked: boolean): void {
    super.begin(bytes, start, end, backslash, checked);
    this.conditional = false;
    this.hidden = false;
    this.binaryIntroducer = false;
    this.dotSeparates = false;
  }

  protected override atEnd(): number {
    return this.conditional ? Token.DOUBT : Token.END;
  }

  protected override noteWord(): void {
    this.binaryIntroducer =
      this.position - this.start === 7 &&
      this.bytes[this.start] === 0x5f &&
      this.bytes.toString('latin1', this.start, this.position).toLowerCase() === '_binary';
  }

  protected read(byte: number): number {
    const kind = classes[byte]!;
    if ((kind & WORD_PART) !== 0) {
      if (this.afterNameAndDot()) return this.word(this.wordEnd(this.position));
      if ((kind & DIGIT) !== 0) return this.numberOrWord(this.position);
      if ((kind & WORD_START) === 0) return this.dollarWord();
      return this.wordOrPrefix(byte | 0x20);
    }
    if (kind === SPACE) return this.space();
    switch (byte) {
      case 0:
        return this.doubt();
      case BACKSLASH:
        // `\N` is NULL. Behind any other, servers pass over a character, which may be a quote.
        return this.bytes[this.position + 1] === 0x4e && this.position + 1 < this.end
          ? this.punctuation(byte)
          : this.doubt();
      case QUOTE:
        return this.string(this.position);
      case DOUBLE_QUOTE:
        return this.doubleQuoted();
      case BACKTICK:
        return this.quoted(this.position, BACKTICK, Token.NAME);
      case 0x40:
        return this.variable();
      case 0x23:
        return this.lineComment();
      case 0x2d:
        if (this.startsLineComment()) return this.lineComment();
        return this.isSignOfNumber(this.position) ? this.numberOrWord(this.position + 1) : this.punctuation(byte);
      case 0x2b:
        return this.isSignOfNumber(this.position) ? this.numberOrWord(this.position + 1) : this.punctuation(byte);
      case DOT:
        return this.startsFraction() ? this.fraction(this.position) : this.punctuation(byte);
      case 0x2f:
        return this.bytes[this.position + 1] === 0x2a && this.position + 1 < this.end
          ? this.blockComment()
          : this.punctuation(byte);
      case 0x2a:
        return this.conditional && this.bytes[this.position + 1] === 0x2f && this.position + 1 < this.end
          ? this.closeConditional()
          : this.punctuation(byte);
      case 0x3f:
        this.position++;
        return Token.PLACEHOLDER;
      default:
        return this.punctuation(byte);
    }
  }

  /** The dot that was read last stands directly behind a name. */
  private dotSeparates = false;

  /** Directly behind `name.` whatever looks like a number is a name: `db.2024_orders`. */
  private afterNameAndDot(): boolean {
    return this.dotSeparates && this.bytes[this.position - 1] === DOT;
  }

  private startsFraction(): boolean {
    this.dotSeparates = this.kind === Token.WORD || this.kind === Token.NAME;
    return !this.dotSeparates && this.isDigit(this.position + 1);
  }

  /** A name that begins with a dollar sign; two of them may open a dollar-quoted text (MySQL 9.0), whose end nobody knows. */
  private dollarWord(): number {
    const end = this.wordEnd(this.position);
    const tag = this.bytes.subarray(this.position + 1, end);
    return tag.includes(0x24) ? this.doubt() : this.word(end);
  }

  private wordOrPrefix(first: number): number {
    const at = this.position + 1;
    if (at < this.end && this.bytes[at] === QUOTE) {
      if (first === 0x6e) return this.string(at);
      if (first === 0x78 || first === 0x62) return this.contained(this.quoted(at, QUOTE, Token.LITERAL));
    }
    return this.word(this.wordEnd(at));
  }

  private string(open: number): number {
    this.binary = this.binaryIntroducer;
    this.binaryIntroducer = false;
    return this.contained(this.escaped(open, QUOTE, this.backslash));
  }

  /** Under ANSI_QUOTES, which no message reports, a backslash escapes nothing here: one before a quote leaves doubt. */
  private doubleQuoted(): number {
    const rule = this.backslash === 'literal' ? 'literal' : 'unknown';
    this.binary = this.binaryIntroducer;
    this.binaryIntroducer = false;
    return this.contained(this.escaped(this.position, DOUBLE_QUOTE, rule));
  }

  /** `@name`, `@@scope.name`; a quoted name of a variable is read as the string that it looks like. */
  private variable(): number {
    const { bytes, end } = this;
    let at = this.position + 1;
    if (at < end && bytes[at] === 0x40) at++;
    const from = at;
    while (at < end && ((classes[bytes[at]!]! & WORD_PART) !== 0 || bytes[at] === DOT)) at++;
    // What begins with a digit or a dot looks too much like a number.
    if (at === from || this.isDigit(from) || bytes[from] === DOT) return this.punctuation(0x40);
    this.position = at;
    return Token.VARIABLE;
  }

  /** "Identifiers may begin with a digit but unless quoted may not consist solely of digits." */
  private numberOrWord(from: number): number {
    const { bytes, end } = this;
    const runEnd = this.wordEnd(from);
    const digits = this.digitsEnd(from);
    if (digits === runEnd) return this.fraction(runEnd);
    if ((bytes[digits]! | 0x20) === 0x65 && digits < runEnd) {
      if (this.digitsEnd(digits + 1) === runEnd && runEnd > digits + 1) return this.literalEnd(runEnd);
      const sign = digits + 1 === runEnd && runEnd < end && (bytes[runEnd] === 0x2b || bytes[runEnd] === 0x2d);
      if (sign && this.isDigit(runEnd + 1)) return this.literalEnd(this.digitsEnd(runEnd + 1));
    }
    if (this.looksLikeNumber(from, runEnd)) return this.literalEnd(runEnd);
    // A sign before a word: the sign alone is the token.
    return from > this.position ? this.punctuation(bytes[this.position]!) : this.word(runEnd);
  }

  /** 0x1F, 0b01, and whatever else has no more than hexadecimal digits and a prefix: that is a name for the server, but too much like a value, or a part of one, to leave. */
  private looksLikeNumber(from: number, end: number): boolean {
    for (let at = from; at < end; at++) {
      const byte = this.bytes[at]! | 0x20;
      if (!this.isDigit(at) && (byte < 0x61 || byte > 0x66) && byte !== 0x78) return false;
    }
    return true;
  }

  /** What may follow the digits before the point: a fraction and an exponent. */
  private fraction(from: number): number {
    const { bytes, end } = this;
    let at = from;
    if (at < end && bytes[at] === DOT) at = this.digitsEnd(at + 1);
    if (at < end && (bytes[at]! | 0x20) === 0x65) {
      const sign = bytes[at + 1] === 0x2b || bytes[at + 1] === 0x2d ? 1 : 0;
      if (this.isDigit(at + 1 + sign)) at = this.digitsEnd(at + 1 + sign);
    }
    return this.literalEnd(at);
  }

  private literalEnd(end: number): number {
    this.position = end;
    return Token.LITERAL;
  }

  /** Two dashes, then white space, a control character or the end. */
  private startsLineComment(): boolean {
    const at = this.position + 1;
    return at < this.end && this.bytes[at] === 0x2d && (at + 1 >= this.end || this.bytes[at + 1]! <= 0x20);
  }

  private lineComment(): number {
    if (this.afterDashes()) return this.doubt();
    this.position = this.lineEnd(this.position, false);
    return this.contained(Token.COMMENT);
  }

  /** Two minus signs stand directly before: with the comment left out they would begin one. */
  private afterDashes(): boolean {
    const at = this.position;
    return (
      at >= this.first + 2 &&
      this.kind === Token.PUNCTUATION &&
      this.bytes[at - 1] === 0x2d &&
      this.bytes[at - 2] === 0x2d
    );
  }

  private blockComment(): number {
    const { bytes, end } = this;
    const from = this.position + 2;
    const marker = bytes[from] === 0x4d && from + 1 < end ? from + 1 : from;
    if (marker < end && bytes[marker] === 0x21) return this.openConditional(marker + 1, marker > from);
    const close = bytes.subarray(from, end).indexOf(CLOSE);
    if (close < 0 || this.afterDashes()) return this.doubt();
    // Whether a comment within a conditional one ends both depends on the server's version.
    if (this.conditional) return this.doubt();
    this.position = from + close + 2;
    return Token.COMMENT;
  }

  /**
   * `/*!`, `/*!50110`, `/*M!100100`: what follows is code, for servers from that version on. The version has 5 digits, or 6 and then white
   * space; without it MySQL takes the sixth for code, MariaDB for the version. `/*M!` is a comment for MySQL. Which server it is, and of
   * which version, its greeting says, but a proxy answers for others: what not all of them run keeps its words to itself.
   */
  private openConditional(from: number, mariadbOnly: boolean): number {
    const digits = this.digitsEnd(from);
    const length = digits - from;
    if (this.conditional || length > 6) return this.doubt();
    const version = length < 5 ? 0 : Number(this.bytes.toString('latin1', from, digits));
    if (version >= (length === 6 ? NEVER_FROM * 10 : NEVER_FROM)) return this.passedOver(digits);
    this.conditional = true;
    this.hidden = mariadbOnly || length === 6 || version >= RUN_BELOW;
    const six = length === 6 && (digits >= this.end || classes[this.bytes[digits]!] === SPACE);
    this.position = six ? digits : length >= 5 ? from + 5 : from;
    return Token.CODE_COMMENT;
  }

  /** A comment for all servers; whether one within it ends both depends on the version. */
  private passedOver(from: number): number {
    const rest = this.bytes.subarray(from, this.end);
    const close = rest.indexOf(CLOSE);
    if (close < 0 || this.afterDashes()) return this.doubt();
    for (let at = 0; at < close; at++) {
      const byte = rest[at]!;
      if (byte === QUOTE || byte === DOUBLE_QUOTE || byte === BACKTICK) return this.doubt();
      if (byte === 0x2f && rest[at + 1] === 0x2a) return this.doubt();
    }
    this.position = from + close + 2;
    return Token.COMMENT;
  }

  private closeConditional(): number {
    this.conditional = false;
    this.hidden = false;
    this.position += 2;
    return Token.CODE_COMMENT;
  }

  /**
   * A server that passes a conditional comment over ends it at the first `*` `/`, also within what would be a string: then nobody
   * can say what is code.
   */
  private contained(kind: number): number {
    if (!this.conditional || kind === Token.DOUBT) return kind;
    return this.bytes.subarray(this.start, this.position).includes(CLOSE) ? this.doubt() : kind;
  }
}
