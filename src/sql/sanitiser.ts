import { K, keywordSet } from './keywords.ts';
import { Token } from './lexer.ts';
import type { SqlDialect } from './statement.ts';
import { TextOutput } from './text-output.ts';

const { IN, SET, ALTER, TO, PASSWORD, IDENTIFIED, BY } = K;
const mayHoldPassword = keywordSet('CREATE', 'ALTER', 'SET', 'GRANT');

/** How far an IN list of nothing but literals has been read. */
const List = { NONE: 0, IN: 1, OPEN: 2, VALUE: 3, COMMA: 4 } as const;
/** PostgreSQL: SET name.with.dot = words. */
const Setting = { NONE: 0, NAME: 1, DOTTED: 2, VALUE: 3 } as const;

/**
 * Writes the text of a statement with its values replaced, token by token: "Sanitization of db.query.text" of the semantic conventions.
 * An IN list of literals becomes `IN (?)`, as the conventions allow, so that the texts of one statement do not differ by its length.
 */
export class Sanitiser {
  readonly output: TextOutput;
  private readonly dialect: SqlDialect;
  private list: number = List.NONE;
  private listStart = 0;
  private setting: number = Setting.NONE;
  private first = 0;
  private previous = 0;
  /** The next word stands where a password does. */
  private secret = false;

  constructor(dialect: SqlDialect, maxTextBytes: number) {
    this.dialect = dialect;
    this.output = new TextOutput(maxTextBytes);
  }

  begin(): void {
    this.output.begin();
    this.list = List.NONE;
    this.setting = Setting.NONE;
    this.first = 0;
    this.previous = 0;
    this.secret = false;
  }

  /** No more tokens are wanted. An open IN list may still shrink and make room. */
  get isFull(): boolean {
    return this.output.truncated && this.list < List.OPEN;
  }

  /**
   * Takes the next token; white space and comments are the output's own business.
   * @returns its kind, LITERAL when a value was taken out
   */
  token(kind: number, keyword: number, character: number, bytes: Buffer, start: number, end: number): number {
    const name = (kind === Token.WORD && keyword === 0) || kind === Token.NAME;
    if (kind === Token.LITERAL || (name && (this.secret || this.setting === Setting.VALUE))) {
      this.output.placeholder();
      this.inList(Token.LITERAL, 0, 0);
      this.secret = false;
      return Token.LITERAL;
    }
    if (this.list === List.VALUE && character === 0x29) this.output.rewind(this.listStart);
    this.inList(kind, keyword, character);
    this.output.append(bytes, start, end);
    this.follow(keyword, character);
    return kind;
  }

  /** Where a bare word would be a value. */
  private follow(keyword: number, character: number): void {
    if (this.first === 0) this.first = keyword;
    if (keyword !== 0 && mayHoldPassword[this.first] === 1) {
      this.secret = keyword === PASSWORD || (keyword === BY && this.previous === IDENTIFIED);
    } else if (character !== 0x3d) {
      this.secret = false;
    }
    if (this.dialect === 'postgresql') {
      if (keyword === SET && (this.first === SET || this.first === ALTER)) this.setting = Setting.NAME;
      else if (this.setting === Setting.NAME && character === 0x2e) this.setting = Setting.DOTTED;
      else if (this.setting === Setting.DOTTED && (keyword === TO || character === 0x3d)) this.setting = Setting.VALUE;
      else if (this.setting === Setting.NAME && (keyword === TO || character === 0x3d)) this.setting = Setting.NONE;
    }
    this.previous = keyword;
  }

  private inList(kind: number, keyword: number, character: number): void {
    switch (this.list) {
      case List.IN:
        this.list = character === 0x28 ? List.OPEN : keyword === IN ? List.IN : List.NONE;
        return;
      case List.OPEN:
        this.list = kind === Token.LITERAL && !this.output.truncated ? List.VALUE : List.NONE;
        this.listStart = this.output.length;
        return;
      case List.VALUE:
        this.list = character === 0x2c ? List.COMMA : List.NONE;
        return;
      case List.COMMA:
        this.list = kind === Token.LITERAL ? List.VALUE : List.NONE;
        return;
      default:
        if (keyword === IN) this.list = List.IN;
    }
  }
}
