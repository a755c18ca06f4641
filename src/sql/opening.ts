import { Token } from './lexer.ts';

/** The tokens that a statement begins with, by their positions. */
const MAX_TOKENS = 16;

export class Opening {
  length = 0;
  /** There were more tokens. */
  cut = false;
  readonly kinds = new Uint8Array(MAX_TOKENS);
  readonly keywords = new Uint16Array(MAX_TOKENS);
  readonly characters = new Uint8Array(MAX_TOKENS);
  private readonly starts = new Int32Array(MAX_TOKENS);
  private readonly ends = new Int32Array(MAX_TOKENS);

  begin(): void {
    this.length = 0;
    this.cut = false;
    this.keywords[0] = 0;
    this.kinds[0] = Token.END;
  }

  token(kind: number, keyword: number, character: number, start: number, end: number): void {
    if (this.length === MAX_TOKENS) {
      this.cut = true;
      return;
    }
    const at = this.length++;
    this.kinds[at] = kind;
    this.keywords[at] = keyword;
    this.characters[at] = character;
    this.starts[at] = start;
    this.ends[at] = end;
  }

  /** The keyword of a token, 0 when there is no such token or it is none. */
  keyword(at: number): number {
    return at < this.length ? this.keywords[at]! : 0;
  }

  character(at: number): number {
    return at < this.length ? this.characters[at]! : 0;
  }

  isName(at: number): boolean {
    return at < this.length && (this.kinds[at] === Token.WORD || this.kinds[at] === Token.NAME);
  }

  isLiteral(at: number): boolean {
    return at < this.length && this.kinds[at] === Token.LITERAL;
  }

  text(at: number, text: (start: number, end: number) => string): string {
    return text(this.starts[at]!, this.ends[at]!);
  }
}
