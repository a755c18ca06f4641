import { EXCHANGE_COST } from '../../memory/cost.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { count } from '../../telemetry/counters.ts';
import { type Attribution, attribute, type Share, Yields } from './attribution.ts';
import { NO_CHANGE } from './changes.ts';
import type { Command, HeldResult } from './commands.ts';
import type { MysqlExchange } from './exchange.ts';
import type { Session } from './session.ts';
import * as wire from './wire.ts';

const NOTHING: Attribution = { complete: [], failed: undefined };

/**
 * Makes the exchanges of a text with several statements from its results. While it is certain which statement the next result belongs to, each
 * exchange is over with its last result. Behind an EXECUTE of something that was not seen, results are held until the text is answered, and then
 * given to statements as far as that can be proven (attribution.ts).
 */
export class Results {
  private readonly session: Session;
  /** Of the statement at hand: rows before the result set at hand, which has the values of OUT parameters. */
  private rowsBefore = -1;
  private outParameters = false;

  constructor(session: Session) {
    this.session = session;
  }

  /** A statement is about to be answered. */
  begin(command: Command): void {
    const { index, statements } = command;
    if (index + 1 >= statements.length) return;
    command.yields = this.session.changes.yieldOf(statements[index], true);
    // It may have any results, and others come behind it.
    if (command.yields === Yields.ANY) command.held = [];
  }

  /** A result set begins. */
  rowsBegin({ exchange }: Command): void {
    this.rowsBefore = exchange === undefined ? -1 : exchange.returnedRows;
    this.outParameters = false;
  }

  /** The definitions of its columns are over. */
  columnsEnd(status: number): void {
    this.outParameters = (status & wire.SERVER_PS_OUT_PARAMS) !== 0;
  }

  /**
   * One result is whole: an OK packet, or a result set.
   *
   * @returns whether it was the last one of the command
   */
  over(command: Command, status: number, hasRows: boolean, timeUs: number): boolean {
    const { session } = this;
    const { exchange, statements } = command;
    const more = (status & wire.SERVER_MORE_RESULTS_EXISTS) !== 0;
    if (exchange === undefined) return !more;
    const again = exchange.answered;
    this.take(exchange, status, hasRows, timeUs);
    if (command.held !== undefined) {
      this.hold(command, exchange, command.held);
      if (!more) this.settle(command, command.held, false);
      return !more;
    }
    const isLast = command.index + 1 >= statements.length;
    // How statements are answered matters only where there are several results.
    const single = (again || more) && !session.changes.mayHaveMore(exchange.statement);
    if (again && isLast && single) exchange.mixed = true;
    const ends = !more || single || (!isLast && !hasRows);
    const only = !more && command.index === 0 && !exchange.mixed;
    session.changes.succeeded(command.isEmpty ? NO_CHANGE : exchange.statement, hasRows, ends, only);
    if (!more) {
      // One answer to a text of several statements: they were one, such as a procedure's body.
      if (statements.length > 1 && command.index === 0) {
        exchange.batchCount = 1;
        exchange.statement = command.statement ?? exchange.statement;
      }
      return true;
    }
    if (!isLast && ends) this.next(command, exchange);
    return false;
  }

  private take(exchange: MysqlExchange, status: number, hasRows: boolean, timeUs: number): void {
    exchange.answered = true;
    exchange.hasRows = hasRows;
    exchange.endUs = timeUs;
    if (!hasRows) exchange.affectedRows = this.session.affectedRows;
    else if (this.outParameters || (status & wire.SERVER_PS_OUT_PARAMS) !== 0) {
      // Values of OUT and INOUT parameters are sent as a result set of their own ("CALL Statement"): they are no rows.
      exchange.returnedRows = this.rowsBefore;
      if (this.rowsBefore <= 0) exchange.firstRowUs = 0;
    }
  }

  /** The statement is over, and the one behind it comes. */
  private next(command: Command, exchange: MysqlExchange): void {
    this.session.finish(exchange);
    command.index++;
    command.exchange = this.exchangeOf(command, exchange, command.index);
    this.begin(command);
  }

  private exchangeOf(command: Command, before: MysqlExchange, index: number): MysqlExchange {
    const { statements } = command;
    const next = this.session.newExchange(command, statements[index], index);
    next.batchCount = statements.length;
    next.traceparent = before.traceparent;
    next.tracestate = before.tracestate;
    return next;
  }

  // --- Results that are held -----------------------------------------------------------------------------------------------------------

  private hold(command: Command, exchange: MysqlExchange, held: HeldResult[]): void {
    const { limits, counters } = this.session.context;
    const { status, toldSchema, toldEncoding } = this.session;
    if (held.length < limits.mysqlHeldResults) {
      held.push({ exchange, status, toldSchema, toldEncoding });
      this.session.queue.addCost(command, EXCHANGE_COST);
    } else if (!command.tooMany) {
      command.tooMany = true;
      count(counters.sql, 'results_limit');
    }
    command.exchange = this.exchangeOf(command, exchange, command.index);
  }

  /** An error has ended the text. @returns the exchange that it belongs to; undefined when results are not held */
  failed(command: Command): MysqlExchange | undefined {
    return command.held === undefined ? undefined : this.settle(command, command.held, true);
  }

  /**
   * Emits the exchanges of statements that ran to their end.
   *
   * @returns that of the statement that failed
   */
  private settle(command: Command, held: readonly HeldResult[], error: boolean): MysqlExchange | undefined {
    const { changes, context } = this.session;
    const { index, statements, exchange } = command;
    const rest = statements.slice(index);
    const countable = !command.tooMany && rest.length <= context.limits.mysqlHeldResults;
    const { complete, failed } = countable
      ? attribute(
          rest.map((statement) => changes.yieldOf(statement, false)),
          held.map((each) => each.exchange.hasRows),
          error,
        )
      : NOTHING;
    for (const [i, share] of complete.entries()) {
      this.session.finish(this.merged(command, held, share, index + i));
      if (share === undefined) this.changedBy(rest[i], held);
      else for (let at = share.from; at < share.to; at++) this.changed(rest[i], held[at]!, at + 1 === share.to);
    }
    command.held = undefined;
    command.exchange = undefined;
    if (!error && complete.length > 0) return undefined;
    const last = this.merged(command, held, failed, Math.min(index + complete.length, statements.length - 1));
    if (failed !== undefined && exchange !== undefined && exchange.returnedRows > 0) {
      // Rows that came before the error.
      last.returnedRows = Math.max(0, last.returnedRows) + exchange.returnedRows;
      last.firstRowUs ||= exchange.firstRowUs;
    }
    if (failed === undefined) {
      last.statement = undefined;
      this.changedBy(undefined, held);
    }
    command.exchange = last;
    return last;
  }

  /** What a statement changes that one of these results, or several, belong to. */
  private changed(statement: SqlStatement | undefined, result: HeldResult, ends: boolean): void {
    const { session } = this;
    session.status = result.status;
    session.toldSchema = result.toldSchema;
    session.toldEncoding = result.toldEncoding;
    session.changes.succeeded(statement, result.exchange.hasRows, ends, false);
  }

  /** The same when it is not proven which: any of them may be the one that says something. */
  private changedBy(statement: SqlStatement | undefined, held: readonly HeldResult[]): void {
    const { session } = this;
    for (const result of held) this.changed(undefined, result, true);
    session.status = undefined;
    session.toldSchema = undefined;
    session.toldEncoding = undefined;
    session.changes.succeeded(statement, false, true, false);
  }

  /** The exchange of one statement with its results; without numbers when it is not proven which they are. */
  private merged(
    command: Command,
    held: readonly HeldResult[],
    share: Share | undefined,
    index: number,
  ): MysqlExchange {
    const own = share === undefined ? held : held.slice(share.from, share.to);
    const made = this.exchangeOf(command, held[0]?.exchange ?? command.exchange!, index);
    for (const { exchange: result } of own) {
      made.responseStartUs ||= result.responseStartUs;
      made.responseBytes += share === undefined ? 0 : result.responseBytes;
      made.endUs = result.endUs;
      if (share === undefined) continue;
      made.firstRowUs ||= result.firstRowUs;
      if (result.returnedRows >= 0) made.returnedRows = Math.max(0, made.returnedRows) + result.returnedRows;
      if (!result.hasRows) made.affectedRows = result.affectedRows;
    }
    if (command.exchange !== undefined) made.responseStartUs ||= command.exchange.responseStartUs;
    made.answered = own.length > 0;
    return made;
  }
}
