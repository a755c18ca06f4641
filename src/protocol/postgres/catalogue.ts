import type { Account } from '../../memory/budget.ts';
import type { SqlLimits } from '../../sql/limits.ts';
import type { SessionEffect } from '../../sql/statement.ts';
import { type Counters, count } from '../../telemetry/counters.ts';
import { NameTable, nameEnd, Portal, Prepared, StatementName } from './names.ts';

/**
 * The prepared statements and portals of one session, as the server has them. A message of the client only names them; what it does is
 * done when the server has said that it did it ("Message Flow", "Extended Query").
 */
export class Catalogue {
  unnamedStatement = new StatementName('');
  unnamedPortal = new Portal('');
  /** Number of ReadyForQuery messages. */
  series = 0;
  private readonly statements: NameTable<StatementName>;
  private readonly portals: NameTable<Portal>;

  constructor(limits: SqlLimits, counters: Counters, memory: Account) {
    this.statements = new NameTable(limits.sqlPreparedStatements, memory, () =>
      count(counters.sql, 'statement_evicted'),
    );
    this.portals = new NameTable(limits.sqlPortals, memory, () => count(counters.sql, 'portal_evicted'));
  }

  get size(): number {
    return this.statements.size + this.portals.size;
  }

  /** What they cost (memory/cost.ts), without the statements that connections share. */
  get cost(): number {
    const unnamed = this.unnamedStatement.ownCost + this.unnamedPortal.ownCost;
    return this.statements.cost + this.portals.cost + unnamed;
  }

  // --- What the client names. The name is bytes[start..end). ---------------------------------------------------------------------------

  statement(bytes: Buffer, start: number, end: number): StatementName | undefined {
    return start === end ? this.unnamedStatement : this.statements.find(bytes, start, end);
  }

  /** The name of a statement that Parse or PREPARE is to make. */
  newStatement(bytes: Buffer, start: number, end: number): StatementName {
    const known = this.statement(bytes, start, end);
    if (known !== undefined) return known;
    const made = new StatementName(bytes.toString('latin1', start, nameEnd(start, end)));
    this.statements.set(made);
    return made;
  }

  portal(bytes: Buffer, start: number, end: number): Portal | undefined {
    return start === end ? this.unnamedPortal : this.portals.find(bytes, start, end);
  }

  newPortal(bytes: Buffer, start: number, end: number): Portal {
    const known = this.portal(bytes, start, end);
    if (known !== undefined) return known;
    const made = new Portal(bytes.toString('latin1', start, nameEnd(start, end)));
    this.portals.set(made);
    return made;
  }

  // --- What the server says --------------------------------------------------------------------------------------------------------------

  /** ParseComplete. */
  parsed(prepared: Prepared): void {
    const { place } = prepared;
    prepared.series = this.series;
    place.prepared = prepared;
  }

  /** Parse was refused, or never read. */
  parseFailed(prepared: Prepared, discarded: boolean): void {
    const { place } = prepared;
    if (place.name === '') {
      // The old one is dropped before the new text is looked at.
      if (!discarded) place.prepared = undefined;
    } else if (place.sent === prepared) {
      place.sent = place.prepared;
      if (place.prepared === undefined) this.statements.remove(place);
    }
  }

  /** The answer to Parse was lost. Where the name was free it is what it has now, or nothing. */
  parseUnanswered(prepared: Prepared): void {
    const { place } = prepared;
    const kept = place.name !== '' && place.prepared !== undefined && place.prepared.statement !== prepared.statement;
    if (kept) place.prepared = undefined;
    else this.parsed(prepared);
  }

  /** CloseComplete. @param awaited whether a Bind to the same portal may wait for its answer */
  closed(thing: unknown, awaited: boolean): void {
    if (thing instanceof StatementName) this.dropStatement(thing);
    else if (thing instanceof Portal) {
      thing.bind(undefined);
      if (!awaited && thing.name !== '') this.portals.remove(thing);
    }
  }

  /** A Query was run: "A simple Query message also destroys the unnamed statement" and portal. */
  queried(): void {
    this.unnamedStatement.prepared = undefined;
    this.unnamedPortal.bind(undefined);
  }

  /** "Portals ... are destroyed at the end of the transaction." @param quiet nothing waits for its answer */
  endTransaction(quiet: boolean): void {
    this.unnamedPortal.prepared = undefined;
    if (this.portals.size === 0) return;
    if (quiet) this.portals.clear();
    else for (const portal of this.portals.all()) portal.prepared = undefined;
  }

  /** Statements of SQL share the names of the protocol's. */
  apply(effect: SessionEffect): void {
    switch (effect.kind) {
      case 'prepare': {
        const bytes = Buffer.from(effect.name);
        const place = this.newStatement(bytes, 0, bytes.length);
        const settled = place.sent === place.prepared;
        const prepared = new Prepared(place, effect.statement);
        this.parsed(prepared);
        if (settled) place.sent = prepared;
        break;
      }
      case 'deallocate':
        if (effect.name === undefined) this.forgetStatements();
        else this.dropStatement(this.statementNamed(effect.name));
        break;
      case 'discard_all':
        this.forgetStatements();
        this.endTransaction(false);
        break;
      case 'cursor':
        if (effect.name === undefined) this.endTransaction(false);
        else {
          const bytes = Buffer.from(effect.name);
          this.portals.find(bytes, 0, bytes.length)?.bind(undefined);
        }
        break;
    }
  }

  statementNamed(name: string): StatementName | undefined {
    const bytes = Buffer.from(name);
    return bytes.length === 0 ? undefined : this.statements.find(bytes, 0, bytes.length);
  }

  /** None of the named ones is there any more, or known. */
  forgetStatements(): void {
    for (const place of [...this.statements.all()]) this.dropStatement(place);
  }

  private dropStatement(place: StatementName | undefined): void {
    if (place === undefined) return;
    // Another Parse under this name may wait for its answer.
    if (place.sent === place.prepared) {
      this.statements.remove(place);
      place.sent = undefined;
    }
    place.prepared = undefined;
  }

  // --- What was lost ---------------------------------------------------------------------------------------------------------------------

  /** Messages of the client were lost: what has no name may have been replaced, what was suspended continued. */
  doubt(): void {
    this.unnamedPortal.doubted = true;
    for (const portal of this.portals.all()) portal.doubted = true;
    // What was asked for before keeps the names that it had.
    this.unnamedStatement = new StatementName('');
    this.unnamedPortal = new Portal('');
    this.portals.clear();
  }

  clear(): void {
    this.doubt();
    this.statements.clear();
  }
}
