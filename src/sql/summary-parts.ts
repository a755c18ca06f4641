import { K } from './keywords.ts';
import type { Start } from './summary-starts.ts';

/** "Generating a summary of the query": the semantic conventions' limit. */
const MAX_SUMMARY_CHARACTERS = 255;
const MAX_PARTS = 128;
const MAX_CTES = 32;

export const Part = { OPERATION: 0, MORE: 1, TARGET: 2, DOT: 3 } as const;

/** The operations and targets of one statement by their positions; the strings are made once, at the end. */
export class SummaryParts {
  length = 0;
  private readonly kinds = new Uint8Array(MAX_PARTS);
  private readonly starts = new Int32Array(MAX_PARTS);
  private readonly ends = new Int32Array(MAX_PARTS);
  private cteNames = 0;
  private readonly cteStarts = new Int32Array(MAX_CTES);
  private readonly cteEnds = new Int32Array(MAX_CTES);
  private bytes: Buffer = Buffer.alloc(0);

  begin(bytes: Buffer): void {
    this.bytes = bytes;
    this.length = 0;
    this.cteNames = 0;
  }

  add(kind: number, start: number, end: number): void {
    if (this.length >= MAX_PARTS) return;
    this.kinds[this.length] = kind;
    this.starts[this.length] = start;
    this.ends[this.length++] = end;
  }

  /** Takes back what was added since there were so many. */
  takeBack(length: number): void {
    this.length = Math.min(this.length, length);
  }

  /** What was added last is an operation, or a part of it. */
  get endsWithOperation(): boolean {
    return this.length > 0 && this.kinds[this.length - 1] !== Part.TARGET;
  }

  /** The name of a common table expression: no collection. */
  addCte(start: number, end: number): void {
    if (this.cteNames >= MAX_CTES) return;
    this.cteStarts[this.cteNames] = start;
    this.cteEnds[this.cteNames++] = end;
  }

  /**
   * Makes the strings of what was collected.
   *
   * @param start how the statement begins
   * @param object the keyword of the kind of object that it is about, 0: none
   */
  build(text: (start: number, end: number) => string, start: Start | undefined, object: number): SummaryText {
    const result: SummaryText = { summary: '', operation: '', collection: '', storedProcedure: '' };
    let targets = 0;
    let open = true;
    for (let i = 0; i < this.length; ) {
      const kind = this.kinds[i]!;
      let part = text(this.starts[i]!, this.ends[i]!);
      const first = i;
      i++;
      while (i < this.length && this.kinds[i] === (kind === Part.TARGET ? Part.DOT : Part.MORE)) {
        part += (kind === Part.TARGET ? '.' : ' ') + text(this.starts[i]!, this.ends[i]!);
        i++;
      }
      if (kind === Part.TARGET && i === first + 1 && this.isCte(first)) continue;
      if (first === 0) result.operation = part;
      if (kind === Part.TARGET && ++targets === 1) single(result, part, start, object);
      const length = result.summary.length + part.length + (result.summary === '' ? 0 : 1);
      open &&= length <= MAX_SUMMARY_CHARACTERS;
      if (open) result.summary += result.summary === '' ? part : ` ${part}`;
    }
    if (targets > 1) result.collection = '';
    return result;
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

function single(result: SummaryText, target: string, start: Start | undefined, object: number): void {
  if (start?.procedure === true) result.storedProcedure = target;
  else if (start?.collection !== false && (start?.object !== true || isCollection(object))) result.collection = target;
}

function isCollection(object: number): boolean {
  return object === K.TABLE || object === K.VIEW || object === 0;
}

export interface SummaryText {
  summary: string;
  operation: string;
  collection: string;
  storedProcedure: string;
}
