/** What a savepoint keeps. */
interface Savepoint {
  readonly name: string;
  readonly now: string;
  readonly afterCommit: string;
}

/** An entry, at half of what it costs. */
const SAVEPOINT_COST = 48;

/**
 * The first schema of a session's search path, as transactions and savepoints change it (guc.c: AtEOXact_GUC). Empty: not known, or the
 * server's default, which nobody has said.
 */
export class SearchPath {
  now = '';
  /** What holds once the transaction commits: without SET LOCAL. */
  private afterCommit = '';
  /** What held when it began. */
  private before = '';
  /** What RESET goes back to: what the client asked for at the start. */
  private initial = '';
  /** The server says it itself, at the end of each series (PostgreSQL 18 and later). */
  private reported: string | undefined = undefined;
  private savepoints: Savepoint[] = [];
  /** Something of the path was changed in this transaction. */
  private changed = false;
  private readonly maxSavepoints: number;
  private readonly onEviction: () => void;

  /** @param maxSavepoints how many are kept; going back to an older one leaves the path unknown */
  constructor(maxSavepoints: number, onEviction: () => void) {
    this.maxSavepoints = maxSavepoints;
    this.onEviction = onEviction;
  }

  /** What its texts cost (memory/cost.ts). */
  get cost(): number {
    let names = this.now.length + this.afterCommit.length + this.before.length + this.initial.length;
    for (const savepoint of this.savepoints) names += SAVEPOINT_COST + savepoint.name.length + savepoint.now.length;
    return 2 * names;
  }

  start(schema: string): void {
    this.initial = schema;
    this.setAll(schema);
  }

  report(schema: string): void {
    this.reported = schema;
    this.set(schema, false);
  }

  set(schema: string, local: boolean): void {
    this.now = schema;
    if (!local) this.afterCommit = schema;
    this.changed = true;
  }

  reset(local: boolean): void {
    this.set(this.initial, local);
  }

  /** It may be another one: until a rollback. */
  doubt(): void {
    this.set('', false);
  }

  /** What was run may have been anything but the end of the transaction. */
  doubtAll(): void {
    this.savepoints = [];
    this.doubt();
  }

  /** Statements that were not seen may have done anything. */
  lose(): void {
    this.setAll('');
  }

  /** The server may have said that it is another one. */
  loseReport(): void {
    this.reported = undefined;
    this.lose();
  }

  /** These schemas are gone, or have other names. */
  drop(schemas: readonly string[]): void {
    if (schemas.includes(this.now)) this.set('', true);
    if (schemas.includes(this.afterCommit)) this.afterCommit = '';
  }

  savepoint(name: string): void {
    if (this.savepoints.length >= this.maxSavepoints) {
      this.savepoints.shift();
      this.onEviction();
    }
    this.savepoints.push({ name, now: this.now, afterCommit: this.afterCommit });
  }

  release(name: string): void {
    const at = this.find(name);
    if (at >= 0) this.savepoints.length = at;
  }

  rollbackTo(name: string): void {
    const at = this.find(name);
    if (at < 0) {
      // Which of the changes were made behind it is not known.
      this.savepoints = [];
      if (this.changed) this.doubt();
      return;
    }
    this.savepoints.length = at + 1;
    this.now = this.savepoints[at]!.now;
    this.afterCommit = this.savepoints[at]!.afterCommit;
  }

  commit(): void {
    this.setAll(this.afterCommit);
  }

  rollback(): void {
    this.setAll(this.before);
  }

  /** ReadyForQuery: the server has said what has changed, if it is one that does. */
  settle(): void {
    if (this.reported === undefined) return;
    this.now = this.reported;
    this.afterCommit = this.reported;
  }

  private setAll(schema: string): void {
    this.now = schema;
    this.afterCommit = schema;
    this.before = schema;
    this.changed = false;
    if (this.savepoints.length > 0) this.savepoints = [];
  }

  /** The last one of that name. */
  private find(name: string): number {
    let at = this.savepoints.length - 1;
    while (at >= 0 && this.savepoints[at]!.name !== name) at--;
    return at;
  }
}
