import type { IncompleteReason } from '../../exchange/exchange.ts';
import { EXCHANGE_COST } from '../../memory/cost.ts';
import type { TextEncoding } from '../../sql/analyser.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import { type Yield, Yields } from './attribution.ts';
import type { MysqlExchange } from './exchange.ts';
import type { Prepared } from './statements.ts';

/** A result, as an exchange of its own, with what the server said behind it: Server Status Flags and session state changes. */
export interface HeldResult {
  readonly exchange: MysqlExchange;
  readonly status: number | undefined;
  readonly toldSchema: string | undefined;
  readonly toldEncoding: string | undefined;
}

const NO_STATEMENTS: readonly SqlStatement[] = [];

/** A command that waits for its answer. Used again and again: a command makes no object but its exchange. */
export class Command {
  /** COM_ number. */
  kind = 0;
  /** Of the last packet that the client sent of it. */
  sequence = 0;
  startUs = 0;
  offset = 0;
  requestBytes = 0;
  /** The statement that is being answered; undefined for a command that makes none. */
  exchange: MysqlExchange | undefined = undefined;
  /** COM_QUERY: its statements, when they are several. */
  statements: readonly SqlStatement[] = NO_STATEMENTS;
  index = 0;
  /** COM_QUERY: it holds nothing but comments. */
  isEmpty = false;
  /** COM_STMT_PREPARE: what is prepared; COM_QUERY: the whole text as one statement, when several may be one. */
  statement: SqlStatement | undefined = undefined;
  prepared: Prepared | undefined = undefined;
  /** COM_INIT_DB, COM_CHANGE_USER: the database that is asked for. */
  database = '';
  /** COM_CHANGE_USER: what it sets the client's character set to. */
  encoding: TextEncoding | undefined = undefined;
  /** Its answer has begun: everything before it is answered. */
  begun = false;
  /** Running it may change how later texts are read. */
  changesRules = false;
  /** COM_STMT_EXECUTE: the statement's number, where what it stands for is decided by an answer to come; else -1. */
  statementId = -1;
  /** COM_SET_OPTION: whether several statements in one text are allowed from then on; undefined: it says nothing of that. */
  multiStatements: boolean | undefined = undefined;
  /** How the statement at hand is answered. */
  yields: Yield = Yields.ONE;
  /** Results from the statement at hand on, while it is not known which statements they belong to; and whether they were too many. */
  held: HeldResult[] | undefined = undefined;
  tooMany = false;
  /** Local files that the server has asked for, and that the client has sent. */
  filesAsked = 0;
  filesSent = 0;
  /** What its statements and names cost (memory/cost.ts). */
  cost = 0;
  /** Part of its answer was lost, or could not be read: its end is not known. */
  damage: IncompleteReason | undefined = undefined;

  clear(): void {
    this.exchange = undefined;
    this.statements = NO_STATEMENTS;
    this.isEmpty = false;
    this.index = 0;
    this.statement = undefined;
    this.prepared = undefined;
    this.database = '';
    this.encoding = undefined;
    this.begun = false;
    this.changesRules = false;
    this.statementId = -1;
    this.multiStatements = undefined;
    this.yields = Yields.ONE;
    this.held = undefined;
    this.tooMany = false;
    this.filesAsked = 0;
    this.filesSent = 0;
    this.cost = 0;
    this.damage = undefined;
  }
}

/** A command, with the exchange that it makes. */
const COMMAND_COST = 256 + EXCHANGE_COST;
/** A queue that has grown beyond this does not stay so once it is empty. */
const KEPT_COMMANDS = 64;

/** First in, first out. Its commands are made once and reused. */
export class CommandQueue {
  length = 0;
  /** Most commands that have waited at once. */
  deepest = 0;
  private ring: Command[] = [new Command()];
  private first = 0;
  private textsCost = 0;

  /** What is held (memory/cost.ts). */
  get cost(): number {
    return this.textsCost + (this.ring.length - 1) * COMMAND_COST;
  }

  /** @param cost of what a command that waits holds from now on */
  addCost(command: Command, cost: number): void {
    command.cost += cost;
    this.textsCost += cost;
  }

  /** @returns the command that was sent first and is not answered */
  get head(): Command | undefined {
    return this.length === 0 ? undefined : this.ring[this.first];
  }

  get last(): Command | undefined {
    return this.length === 0 ? undefined : this.ring[(this.first + this.length - 1) % this.ring.length];
  }

  at(index: number): Command | undefined {
    return index < this.length ? this.ring[(this.first + index) % this.ring.length] : undefined;
  }

  /** @returns a cleared command at the end of the queue */
  push(): Command {
    if (this.length === this.ring.length) this.grow();
    const command = this.ring[(this.first + this.length++) % this.ring.length]!;
    command.clear();
    if (this.length > this.deepest) this.deepest = this.length;
    return command;
  }

  shift(): void {
    const command = this.ring[this.first]!;
    this.textsCost -= command.cost;
    command.clear();
    this.first = (this.first + 1) % this.ring.length;
    if (--this.length === 0 && this.ring.length > KEPT_COMMANDS) this.release();
  }

  release(): void {
    this.ring = [new Command()];
    this.first = 0;
    this.length = 0;
    this.textsCost = 0;
  }

  private grow(): void {
    const ring: Command[] = [];
    for (let i = 0; i < this.ring.length; i++) ring.push(this.ring[(this.first + i) % this.ring.length]!);
    while (ring.length < this.length * 2) ring.push(new Command());
    this.ring = ring;
    this.first = 0;
  }
}
