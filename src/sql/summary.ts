import { K } from './keywords.ts';
import { Token } from './lexer.ts';
import { type Start, startOf } from './summary-starts.ts';
import {
  combines,
  endsTables,
  endsWords,
  MAX_COMMAND_BYTES,
  nothing,
  objectKinds,
  objectPrefixes,
  skippedBeforeTarget,
  skippedByMark,
  skippedByObject,
  skips,
  statementStarts,
} from './summary-words.ts';

/** "Generating a summary of the query": the semantic conventions' limit. */
const MAX_SUMMARY_CHARACTERS = 255;
const MAX_PARTS = 128;
const MAX_DEPTH = 64;
const MAX_CTES = 32;

/** What a level of parentheses waits for. */
const Mode = {
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
} as const;

const Part = { OPERATION: 0, MORE: 1, TARGET: 2, DOT: 3 } as const;

/** The longest run of words that SHOW and its like take. */
const MAX_WORDS = 3;

/**
 * Collects the operations and targets of one statement while its tokens pass by. Keeps positions only; the strings are made once,
 * at the end, and only when they are asked for.
 */
export class Summary {
  private readonly kinds = new Uint8Array(MAX_PARTS);
  private readonly starts = new Int32Array(MAX_PARTS);
  private readonly ends = new Int32Array(MAX_PARTS);
  private parts = 0;
  private depth = 0;
  private readonly modes = new Uint8Array(MAX_DEPTH);
  /** Per level: behind a target a comma or JOIN brings the next one. */
  private readonly lists = new Uint8Array(MAX_DEPTH);
  /** Per level: the keyword of the query. */
  private readonly queries = new Uint8Array(MAX_DEPTH);
  private skipped: Uint8Array = nothing;
  private marks: Uint8Array = nothing;
  private words = 0;
  private combined = false;
  private previous = 0;
  private start: Start | undefined;
  private object = 0;
  private materialized = false;
  /** The rest of CREATE, ALTER, DROP is being passed. */
  private inObject = false;
  /** EXPLAIN: FORMAT was read, the next name is the format. */
  private formatGiven = false;
  private cteNames = 0;
  private readonly cteStarts = new Int32Array(MAX_CTES);
  private readonly cteEnds = new Int32Array(MAX_CTES);
  private bytes: Buffer = Buffer.alloc(0);

  begin(bytes: Buffer): void {
    this.bytes = bytes;
    this.parts = 0;
    this.depth = 0;
    this.modes[0] = Mode.START;
    this.lists[0] = 0;
    this.queries[0] = 0;
    this.skipped = nothing;
    this.words = 0;
    this.combined = false;
    this.previous = 0;
    this.start = undefined;
    this.object = 0;
    this.materialized = false;
    this.inObject = false;
    this.formatGiven = false;
    this.cteNames = 0;
  }

  /** Takes the next token: its kind, its keyword or character, and where it stands. */
  token(kind: number, keyword: number, character: number, start: number, end: number): void {
    if (this.modes[0] === Mode.DONE) return;
    if (kind === Token.PUNCTUATION) this.punctuation(character);
    else if (this.depth >= MAX_DEPTH) return;
    else if (kind === Token.WORD) this.word(keyword, start, end);
    else if (kind === Token.NAME) this.name(start, end);
    else this.other(kind, start, end);
    this.previous = keyword;
  }

  /** Values and commas change nothing here. */
  get passesValues(): boolean {
    return this.depth > 0 && (this.depth >= MAX_DEPTH || this.modes[this.depth] === Mode.EXPRESSION);
  }

  private punctuation(character: number): void {
    if (character === 0x28) {
      this.open();
      return;
    }
    if (character === 0x29) {
      if (this.depth > 0) this.depth--;
      this.settle();
      return;
    }
    if (this.depth >= MAX_DEPTH) return;
    const mode = this.modes[this.depth]!;
    if (character === 0x2e) {
      if (mode === Mode.NAMED) this.modes[this.depth] = Mode.DOTTED;
    } else if (character === 0x2c) {
      if (mode === Mode.CTE) this.words = 0;
      else if (this.lists[this.depth] === 1 && (mode === Mode.NAMED || mode === Mode.CLAUSES)) this.expect();
      else this.settle();
    } else if (mode !== Mode.OBJECT && mode !== Mode.OPTIONS) {
      this.settle();
    }
  }

  private open(): void {
    const outer = this.depth < MAX_DEPTH ? this.modes[this.depth]! : Mode.EXPRESSION;
    let inner: number = Mode.EXPRESSION;
    if (outer === Mode.START) {
      inner = Mode.START;
      this.modes[this.depth] = Mode.CLAUSES;
    } else if (outer === Mode.TARGET && !this.start?.options) {
      inner = Mode.TARGET;
      this.modes[this.depth] = Mode.CLAUSES;
    } else if (outer === Mode.CTE && (this.previous === K.AS || this.previous === K.MATERIALIZED)) {
      inner = Mode.START;
    } else {
      this.settle();
    }
    this.depth++;
    if (this.depth >= MAX_DEPTH) return;
    this.modes[this.depth] = inner;
    this.lists[this.depth] = inner === Mode.TARGET ? 1 : 0;
    this.queries[this.depth] = 0;
  }

  /** What follows is no part of the target's name. */
  private settle(): void {
    if (this.depth >= MAX_DEPTH) return;
    const mode = this.modes[this.depth]!;
    if (mode === Mode.NAMED || mode === Mode.DOTTED) this.modes[this.depth] = Mode.CLAUSES;
  }

  private expect(skipped: Uint8Array = skippedBeforeTarget): void {
    this.modes[this.depth] = Mode.TARGET;
    this.skipped = skipped;
  }

  private word(keyword: number, start: number, end: number): void {
    const mode = this.modes[this.depth]!;
    switch (mode) {
      case Mode.START:
        this.first(keyword, start, end);
        return;
      case Mode.TARGET:
        this.target(keyword, start, end);
        return;
      case Mode.DOTTED:
        this.add(Part.DOT, start, end);
        this.modes[this.depth] = Mode.NAMED;
        return;
      case Mode.CTE:
        this.cte(keyword, start, end);
        return;
      case Mode.OBJECT:
        this.objectKind(keyword, start, end);
        return;
      case Mode.OPTIONS:
        this.option(keyword, start, end);
        return;
      case Mode.BODY:
        if (keyword === K.CURSOR) this.add(Part.MORE, start, end);
        else if (keyword === K.TRANSACTION) this.finish(Part.MORE, start, end);
        else if (keyword === K.AS || keyword === K.FOR) this.modes[this.depth] = Mode.START;
        return;
      case Mode.WORDS:
        this.moreWords(keyword, start, end);
        return;
      case Mode.MARKED:
        if (keyword !== 0 && this.marks[keyword] === 1) this.expect(skippedByMark);
        return;
      default:
        this.clause(keyword, start, end);
        return;
    }
  }

  /** The first word of a statement, of a common table expression, or of a part of a UNION. */
  private first(keyword: number, start: number, end: number): void {
    if (keyword === K.ALL || keyword === K.DISTINCT) return;
    const description = startOf(keyword);
    if (this.depth === 0) this.start = description;
    this.queries[this.depth] = keyword;
    this.lists[this.depth] = description?.list === true ? 1 : 0;
    if (keyword === K.WITH) {
      this.modes[this.depth] = Mode.CTE;
      this.words = 0;
      return;
    }
    if (keyword === K.SELECT) {
      this.select(start, end);
      return;
    }
    if (description === undefined && (this.depth > 0 || !this.isPlain(start, end))) {
      this.modes[this.depth] = this.depth === 0 ? Mode.DONE : Mode.EXPRESSION;
      return;
    }
    if (keyword !== K.VALUES || (this.depth === 0 && !this.combined)) this.add(Part.OPERATION, start, end);
    this.combined = false;
    if (description === undefined) {
      this.modes[this.depth] = Mode.DONE;
      return;
    }
    this.marks = description.marks ?? nothing;
    this.words = description.words ?? MAX_WORDS;
    this.modes[this.depth] = Mode[description.mode];
    this.skipped = skips[description.skips ?? 'target'];
  }

  /** A word of letters only, not too long: a command that is not known here, rather than something typed by mistake. */
  private isPlain(start: number, end: number): boolean {
    for (let at = start; at < end; at++) {
      const letter = this.bytes[at]! | 0x20;
      if (letter < 0x61 || letter > 0x7a) return false;
    }
    return end - start <= MAX_COMMAND_BYTES;
  }

  private select(start: number, end: number): void {
    if (!this.combined) this.add(Part.OPERATION, start, end);
    this.combined = false;
    this.queries[this.depth] = K.SELECT;
    this.lists[this.depth] = 1;
    this.inObject = false;
    this.modes[this.depth] = Mode.LIST;
  }

  private target(keyword: number, start: number, end: number): void {
    if (keyword !== 0) {
      if (this.skipped[keyword] === 1) return;
      if (keyword === K.SELECT && this.depth > 0) {
        this.select(start, end);
        return;
      }
      if (this.depth > 0 && (keyword === K.WITH || keyword === K.VALUES)) {
        this.first(keyword, start, end);
        return;
      }
      const wasOperation = this.parts > 0 && this.kinds[this.parts - 1] !== Part.TARGET;
      if (wasOperation && this.start?.takes?.[keyword] === 1) {
        this.add(Part.MORE, start, end);
        return;
      }
      if (this.object === K.INDEX && keyword === K.ON) return;
      if (this.object === K.EVENT && keyword === K.TRIGGER) {
        this.add(Part.MORE, start, end);
        return;
      }
      if (this.object === K.USER && keyword === K.MAPPING) {
        this.finish(Part.MORE, start, end);
        return;
      }
    }
    this.name(start, end);
  }

  private name(start: number, end: number): void {
    const mode = this.modes[this.depth]!;
    if (mode === Mode.DOTTED) this.add(Part.DOT, start, end);
    else if (mode === Mode.TARGET) this.add(Part.TARGET, start, end);
    else if (mode === Mode.CTE) {
      this.cte(0, start, end);
      return;
    } else if (mode === Mode.WORDS) {
      this.moreWords(0, start, end);
      return;
    } else if (mode === Mode.OPTIONS) this.add(Part.TARGET, start, end);
    else return;
    this.modes[this.depth] = Mode.NAMED;
  }

  /** A value, a placeholder or a variable. */
  private other(kind: number, start: number, end: number): void {
    const mode = this.modes[this.depth]!;
    if (mode === Mode.TARGET && kind === Token.VARIABLE && this.start?.variable === true) {
      this.finish(Part.TARGET, start, end);
      return;
    }
    if (mode === Mode.TARGET || mode === Mode.NAMED || mode === Mode.DOTTED) this.modes[this.depth] = Mode.CLAUSES;
    else if (mode === Mode.WORDS) this.modes[this.depth] = Mode.DONE;
  }

  private cte(keyword: number, start: number, end: number): void {
    if (this.words === 0) {
      if (keyword === K.RECURSIVE) return;
      this.words = 1;
      if (this.cteNames < MAX_CTES) {
        this.cteStarts[this.cteNames] = start;
        this.cteEnds[this.cteNames++] = end;
      }
    } else if (keyword !== 0 && statementStarts[keyword] === 1) {
      this.first(keyword, start, end);
    }
  }

  private objectKind(keyword: number, start: number, end: number): void {
    if (keyword === 0) return;
    this.materialized ||= keyword === K.MATERIALIZED;
    if (objectPrefixes[keyword] === 1) {
      this.add(Part.MORE, start, end);
      return;
    }
    if (objectKinds[keyword] !== 1) return;
    this.add(Part.MORE, start, end);
    this.object = keyword;
    this.inObject = true;
    this.expect(skippedByObject);
    if (keyword === K.PRIVILEGES) this.modes[this.depth] = Mode.DONE;
  }

  private option(keyword: number, start: number, end: number): void {
    if (keyword !== 0 && statementStarts[keyword] === 1) {
      this.first(keyword, start, end);
      return;
    }
    if (keyword === K.FORMAT) this.formatGiven = true;
    else if (keyword === 0 && this.formatGiven) this.formatGiven = false;
    else if (keyword === 0) this.name(start, end);
  }

  private moreWords(keyword: number, start: number, end: number): void {
    if (keyword !== 0 && endsWords[keyword] === 1) {
      if (keyword === K.FROM || keyword === K.IN) this.expect();
      else this.modes[this.depth] = Mode.DONE;
    } else if (objectKinds[this.previous] === 1 && this.start?.keywordsOnly !== true) {
      this.expect();
      this.target(keyword, start, end);
    } else if (this.words-- > 0 && (keyword !== 0 || this.start?.keywordsOnly !== true)) {
      this.add(Part.MORE, start, end);
    } else {
      this.modes[this.depth] = Mode.DONE;
    }
  }

  /** A word behind the targets, in a list of columns or in an expression. */
  private clause(keyword: number, start: number, end: number): void {
    this.settle();
    if (keyword === 0) return;
    const query = this.queries[this.depth]!;
    if (this.depth === 0 && this.inObject && this.behindObject(keyword)) return;
    if (keyword === K.SELECT) {
      this.select(start, end);
      return;
    }
    if (combines[keyword] === 1) {
      this.combined = true;
      this.modes[this.depth] = Mode.START;
    } else if (keyword === K.FROM) {
      const awaited = this.modes[this.depth] === Mode.LIST || query === K.UPDATE;
      if (awaited && this.previous !== K.DISTINCT) this.expectTables();
    } else if (keyword === K.USING) {
      if (query === K.DELETE || query === K.MERGE) this.expectTables();
    } else if (keyword === K.JOIN || keyword === K.STRAIGHT_JOIN) {
      if (this.lists[this.depth] === 1 && this.modes[this.depth] === Mode.CLAUSES) this.expect();
    } else if (keyword === K.WITH) {
      if (this.modes[this.depth] === Mode.EXPRESSION) this.first(keyword, start, end);
    } else if (endsTables[keyword] === 1 && this.modes[this.depth] === Mode.CLAUSES) {
      this.lists[this.depth] = 0;
    }
  }

  private expectTables(): void {
    this.lists[this.depth] = this.queries[this.depth] === K.MERGE ? 0 : 1;
    this.expect();
  }

  /** CREATE TABLE t AS runs its query; that of a view is only kept. Returns whether the word has said all. */
  private behindObject(keyword: number): boolean {
    const runs = this.queries[0] === K.CREATE && (this.object === K.TABLE || this.materialized);
    if (runs && keyword === K.AS) {
      this.modes[0] = Mode.START;
      this.inObject = false;
      return true;
    }
    if (!runs && this.lists[0] === 0) this.modes[0] = Mode.DONE;
    return !runs;
  }

  private finish(kind: number, start: number, end: number): void {
    this.add(kind, start, end);
    this.modes[this.depth] = Mode.DONE;
  }

  private add(kind: number, start: number, end: number): void {
    if (this.parts >= MAX_PARTS) return;
    this.kinds[this.parts] = kind;
    this.starts[this.parts] = start;
    this.ends[this.parts++] = end;
  }

  /** Makes the strings of what was collected. */
  build(text: (start: number, end: number) => string): SummaryText {
    const result: SummaryText = { summary: '', operation: '', collection: '', storedProcedure: '' };
    let targets = 0;
    let open = true;
    for (let i = 0; i < this.parts; ) {
      const kind = this.kinds[i]!;
      let part = text(this.starts[i]!, this.ends[i]!);
      const first = i;
      i++;
      while (i < this.parts && this.kinds[i] === (kind === Part.TARGET ? Part.DOT : Part.MORE)) {
        part += (kind === Part.TARGET ? '.' : ' ') + text(this.starts[i]!, this.ends[i]!);
        i++;
      }
      if (kind === Part.TARGET && i === first + 1 && this.isCte(first)) continue;
      if (first === 0) result.operation = part;
      if (kind === Part.TARGET && ++targets === 1) this.single(result, part);
      const length = result.summary.length + part.length + (result.summary === '' ? 0 : 1);
      open &&= length <= MAX_SUMMARY_CHARACTERS;
      if (open) result.summary += result.summary === '' ? part : ` ${part}`;
    }
    if (targets > 1) result.collection = '';
    return result;
  }

  private single(result: SummaryText, target: string): void {
    if (this.start?.procedure === true) result.storedProcedure = target;
    else if (this.start?.collection !== false && (this.start?.object !== true || this.isCollection()))
      result.collection = target;
  }

  private isCollection(): boolean {
    return this.object === K.TABLE || this.object === K.VIEW || this.object === 0;
  }

  /** Whether this part is the name of a common table expression of the statement: no collection. */
  private isCte(part: number): boolean {
    for (let i = 0; i < this.cteNames; i++) {
      const length = this.cteEnds[i]! - this.cteStarts[i]!;
      if (
        this.ends[part]! - this.starts[part]! === length &&
        this.alike(this.cteStarts[i]!, this.starts[part]!, length)
      )
        return true;
    }
    return false;
  }

  private alike(a: number, b: number, length: number): boolean {
    for (let i = 0; i < length; i++) {
      const x = this.bytes[a + i]!;
      const y = this.bytes[b + i]!;
      if (x !== y && (x | 0x20) !== (y | 0x20)) return false;
    }
    return true;
  }
}

export interface SummaryText {
  summary: string;
  operation: string;
  collection: string;
  storedProcedure: string;
}
