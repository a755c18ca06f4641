/**
 * The commands that wait for their answer, in their order. Kept in columns, so that a command costs no object.
 */
import { PendingRing } from '../shared/ring.ts';
import { type Command, OTHER } from './commands.ts';
import type { Pipeline } from './exchange.ts';

const LEAST_CAPACITY = 8;
/** Of one place, in all columns. */
const PLACE_COST = 57;
/** Of the objects that a place may hold: a pipeline, the text of an argument. */
const SUBJECT_COST = 96;

export class CommandRing extends PendingRing {
  private subjects = 0;
  private commands: Command[] = new Array<Command>(LEAST_CAPACITY).fill(OTHER);
  private argumentCounts = new Float64Array(LEAST_CAPACITY);
  private starts = new Float64Array(LEAST_CAPACITY);
  private offsets = new Float64Array(LEAST_CAPACITY);
  private sizes = new Float64Array(LEAST_CAPACITY);
  private indices = new Uint32Array(LEAST_CAPACITY);
  private unanswered = new Uint8Array(LEAST_CAPACITY);
  private pipelines: (Pipeline | undefined)[] = new Array<undefined>(LEAST_CAPACITY).fill(undefined);
  private texts: string[] = new Array<string>(LEAST_CAPACITY).fill('');

  /** @param limit of commands held at once */
  constructor(limit: number) {
    super(limit, LEAST_CAPACITY);
  }

  /** What is held (memory/cost.ts). */
  get cost(): number {
    return this.costOf(PLACE_COST) + this.subjects * SUBJECT_COST;
  }

  /** Of the first command. */
  get command(): Command {
    return this.commands[this.head]!;
  }

  get argumentCount(): number {
    return this.argumentCounts[this.head]!;
  }

  get startUs(): number {
    return this.starts[this.head]!;
  }

  get offset(): number {
    return this.offsets[this.head]!;
  }

  get size(): number {
    return this.sizes[this.head]!;
  }

  /** The one write that it came in; undefined when it is alone there. */
  get pipeline(): Pipeline | undefined {
    return this.pipelines[this.head];
  }

  get index(): number {
    return this.indices[this.head]!;
  }

  /** The argument that is needed when it is answered: a database, the name of a script. */
  get text(): string {
    return this.texts[this.head]!;
  }

  /** The server gives no answer to it. */
  get isUnanswered(): boolean {
    return this.length > 0 && this.unanswered[this.head] === 1;
  }

  /** @returns false when there are too many: it was not taken */
  push(
    command: Command,
    argumentCount: number,
    startUs: number,
    offset: number,
    size: number,
    pipeline: Pipeline | undefined,
    index: number,
    text: string,
    isUnanswered: boolean,
  ): boolean {
    const at = this.add();
    if (at < 0) return false;
    this.commands[at] = command;
    this.argumentCounts[at] = argumentCount;
    this.starts[at] = startUs;
    this.offsets[at] = offset;
    this.sizes[at] = size;
    this.pipelines[at] = pipeline;
    this.indices[at] = index;
    this.texts[at] = text;
    this.unanswered[at] = isUnanswered ? 1 : 0;
    if (text !== '') this.subjects++;
    return true;
  }

  /** The last command turns out to be the first of a write of several. */
  beginPipeline(pipeline: Pipeline): void {
    if (this.length === 0) return;
    const at = this.placeOf(this.length - 1);
    // One that waits no longer has become a span already, as one alone.
    if (this.offsets[at] === pipeline.offset) this.pipelines[at] = pipeline;
  }

  shift(): void {
    if (this.length === 0) return;
    const { head } = this;
    if (this.texts[head] !== '') this.subjects--;
    this.pipelines[head] = undefined;
    this.texts[head] = '';
    this.drop();
  }

  override clear(): void {
    this.subjects = 0;
    super.clear();
  }

  protected override reallocate(capacity: number): void {
    this.commands = this.moved(this.commands, new Array<Command>(capacity).fill(OTHER));
    this.argumentCounts = this.moved(this.argumentCounts, new Float64Array(capacity));
    this.starts = this.moved(this.starts, new Float64Array(capacity));
    this.offsets = this.moved(this.offsets, new Float64Array(capacity));
    this.sizes = this.moved(this.sizes, new Float64Array(capacity));
    this.indices = this.moved(this.indices, new Uint32Array(capacity));
    this.unanswered = this.moved(this.unanswered, new Uint8Array(capacity));
    this.pipelines = this.moved(this.pipelines, new Array<undefined>(capacity).fill(undefined));
    this.texts = this.moved(this.texts, new Array<string>(capacity).fill(''));
  }
}
