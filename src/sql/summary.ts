import { K } from './keywords.ts';
import { Token } from './lexer.ts';
import type { SqlDialect } from './statement.ts';
import { Mode } from './summary-mode.ts';
import { Part, SummaryParts, type SummaryText } from './summary-parts.ts';
import { type Start, startOf } from './summary-starts.ts';
import {
  combines,
  continuesObject,
  endsTables,
  endsWords,
  isPlain,
  noObject,
  noTarget,
  nothing,
  objectKinds,
  objectPrefixes,
  skippedBeforeTarget,
  skippedByMark,
  skippedByObject,
  skips,
  statementStarts,
} from './summary-words.ts';

const MAX_DEPTH = 64;

/** The longest run of words that SHOW and its like take. */
const MAX_WORDS = 3;

/**
 * Collects the operations and targets of one statement while its tokens pass by. Keeps positions only; the strings are made once,
 * at the end, and only when they are asked for.
 */
export class Summary {
  private readonly parts = new SummaryParts();
  private readonly dialect: SqlDialect;
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
  /** {OJ: the next word says what is in the braces. */
  private braced = false;
  /** LAST: how many parts there were before the words of which the last one is the target. */
  private runStart = -1;
  private bytes: Buffer = Buffer.alloc(0);

  constructor(dialect: SqlDialect) {
    this.dialect = dialect;
  }

  begin(bytes: Buffer): void {
    this.bytes = bytes;
    this.parts.begin(bytes);
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
    this.braced = false;
    this.runStart = -1;
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
    if (mode === Mode.LAST) this.lastOther(character);
    else if (mode === Mode.DOTTED && this.runStart >= 0) {
      // db.*: all that is in it.
      this.modes[this.depth] = Mode.LAST;
    } else if (character === 0x2e) {
      if (mode === Mode.NAMED) this.modes[this.depth] = Mode.DOTTED;
    } else if (character === 0x2c) {
      if (mode === Mode.CTE) this.words = 0;
      else if (this.lists[this.depth] === 1 && (mode === Mode.NAMED || mode === Mode.CLAUSES)) this.expect();
      else this.settle();
    } else if (character === 0x7b && mode === Mode.TARGET) {
      this.braced = true;
    } else if (mode !== Mode.OBJECT && mode !== Mode.OPTIONS) {
      this.settle();
    }
  }

  private open(): void {
    const outer = this.depth < MAX_DEPTH ? this.modes[this.depth]! : Mode.EXPRESSION;
    if (outer === Mode.LAST) this.lastOther(0x28);
    let inner: number = Mode.EXPRESSION;
    if (outer === Mode.START) {
      inner = Mode.START;
      this.modes[this.depth] = Mode.CLAUSES;
    } else if (outer === Mode.TARGET && this.start?.object === true) {
      // CREATE CAST (a AS b): no name.
      this.modes[this.depth] = Mode.DONE;
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
        this.dotted(start, end);
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
        if (keyword !== 0 && this.marks[keyword] === 1) this.marked();
        return;
      case Mode.LAST:
        this.lastWord(keyword, start, end);
        return;
      default:
        this.clause(keyword, start, end);
        return;
    }
  }

  private marked(): void {
    if (this.start?.last !== true) this.expect(skippedByMark);
    else {
      this.modes[this.depth] = Mode.LAST;
      this.runStart = -1;
    }
  }

  /** A word or name behind ON, of GRANT and REVOKE. */
  private lastWord(keyword: number, start: number, end: number): void {
    if (keyword === K.TO || keyword === K.FROM) {
      this.modes[this.depth] = Mode.DONE;
      return;
    }
    if (this.runStart >= 0) this.parts.takeBack(this.runStart);
    this.runStart = this.parts.length;
    this.add(Part.TARGET, start, end);
  }

  /** Behind ON, of GRANT and REVOKE. `*` and numbers stand in the place of names; what they follow is the kind of object. */
  private lastOther(character: number): void {
    if (character === 0x2e) this.modes[this.depth] = Mode.DOTTED;
    else if (character === 0x2c || character === 0x28) this.runStart = -1;
    else if (this.runStart >= 0) {
      this.parts.takeBack(this.runStart);
      this.runStart = -1;
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
    if (description === undefined && (this.depth > 0 || !isPlain(this.bytes, start, end))) {
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

  private select(start: number, end: number): void {
    if (!this.combined) this.add(Part.OPERATION, start, end);
    this.combined = false;
    this.queries[this.depth] = K.SELECT;
    this.lists[this.depth] = 1;
    this.inObject = false;
    this.modes[this.depth] = Mode.LIST;
  }

  private target(keyword: number, start: number, end: number): void {
    if (this.braced || this.formatGiven) {
      this.braced = false;
      this.formatGiven = false;
      return;
    }
    if (keyword !== 0 && !this.isTarget(keyword, start, end)) return;
    this.name(start, end);
  }

  /** Whether a keyword that stands where a target may is the target's name; else it is dealt with. */
  private isTarget(keyword: number, start: number, end: number): boolean {
    if (this.skipped[keyword] === 1) return false;
    if (this.beginsQuery(keyword)) {
      this.first(keyword, start, end);
      return false;
    }
    if (this.parts.endsWithOperation && this.start?.takes?.[keyword] === 1) {
      this.add(Part.MORE, start, end);
      return false;
    }
    if (this.start?.phrases?.[keyword] === 1) {
      this.add(Part.MORE, start, end);
      this.modes[this.depth] = Mode.WORDS;
      this.words = 1;
      return false;
    }
    if (this.start?.object === true) {
      if (this.object === K.INDEX && keyword === K.ON) return false;
      if (continuesObject(this.object, keyword)) {
        this.add(Part.MORE, start, end);
        return false;
      }
      if (this.object === K.USER && keyword === K.MAPPING) {
        this.finish(Part.MORE, start, end);
        return false;
      }
      if (this.object === K.SCHEMA && keyword === K.AUTHORIZATION) return false;
      if (noObject[keyword] === 1 || (this.object === K.USER && keyword === K.USER)) {
        this.modes[this.depth] = Mode.DONE;
        return false;
      }
    } else if (this.start?.format === true && keyword === K.FORMAT) {
      this.formatGiven = true;
      return false;
    }
    if (noTarget[keyword] !== 1 && (keyword !== K.DUAL || this.dialect !== 'mysql')) return true;
    this.modes[this.depth] = Mode.CLAUSES;
    this.clause(keyword, start, end);
    return false;
  }

  /** A query, or a statement, stands where a target may. */
  private beginsQuery(keyword: number): boolean {
    if (this.depth > 0) {
      if (keyword === K.SELECT || keyword === K.WITH || keyword === K.VALUES || keyword === K.TABLE) return true;
      return this.queries[0] === K.COPY && statementStarts[keyword] === 1;
    }
    return this.start?.format === true && statementStarts[keyword] === 1 && keyword !== K.TABLE;
  }

  private name(start: number, end: number): void {
    const mode = this.modes[this.depth]!;
    if (mode === Mode.DOTTED) {
      this.dotted(start, end);
      return;
    }
    if (mode === Mode.LAST) {
      this.lastWord(0, start, end);
      return;
    }
    if (mode === Mode.TARGET) this.add(Part.TARGET, start, end);
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

  private dotted(start: number, end: number): void {
    this.add(Part.DOT, start, end);
    this.modes[this.depth] = this.runStart >= 0 ? Mode.LAST : Mode.NAMED;
  }

  /** A value, a placeholder or a variable. */
  private other(kind: number, start: number, end: number): void {
    const mode = this.modes[this.depth]!;
    if (mode === Mode.TARGET && kind === Token.VARIABLE && this.start?.variable === true) {
      this.finish(Part.TARGET, start, end);
      return;
    }
    if (mode === Mode.LAST) this.lastOther(0);
    else if (mode === Mode.TARGET || mode === Mode.NAMED || mode === Mode.DOTTED) this.modes[this.depth] = Mode.CLAUSES;
    else if (mode === Mode.WORDS) this.modes[this.depth] = Mode.DONE;
  }

  private cte(keyword: number, start: number, end: number): void {
    if (this.words === 0) {
      if (keyword === K.RECURSIVE) return;
      this.words = 1;
      this.parts.addCte(start, end);
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
    else if (keyword === K.FOR) this.modes[this.depth] = Mode.DONE;
    else if (keyword === 0 && this.formatGiven) this.formatGiven = false;
    else if (keyword === 0) this.name(start, end);
  }

  private moreWords(keyword: number, start: number, end: number): void {
    if (this.queries[0] === K.FLUSH && (keyword === K.LOCAL || keyword === K.NO_WRITE_TO_BINLOG)) return;
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
    if (keyword === K.FROM && this.previous === K.ROWS && this.modes[this.depth] === Mode.NAMED) {
      // ROWS FROM (f(...), g(...)).
      this.parts.takeBack(this.parts.length - 1);
      this.expect();
      return;
    }
    this.settle();
    if (keyword === 0) return;
    const query = this.queries[this.depth]!;
    if (this.depth === 0 && this.inObject && this.behindObject(keyword)) return;
    if (keyword === K.SELECT) {
      this.select(start, end);
      return;
    }
    if (keyword === K.TABLE && this.isQuery(query)) this.first(keyword, start, end);
    else if (combines[keyword] === 1) {
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

  /** TABLE here is short for SELECT * FROM. */
  private isQuery(query: number): boolean {
    const mode = this.modes[this.depth];
    return (mode === Mode.CLAUSES && (query === K.INSERT || query === K.REPLACE)) || mode === Mode.EXPRESSION;
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
    this.parts.add(kind, start, end);
  }

  /** Makes the strings of what was collected. */
  build(text: (start: number, end: number) => string): SummaryText {
    return this.parts.build(text, this.start, this.object);
  }
}
