import type { IncompleteReason } from '../../exchange/exchange.ts';
import type { TextEncoding } from '../../sql/analyser.ts';
import type { SqlStatement } from '../../sql/statement.ts';
import type { MysqlExchange } from './exchange.ts';
import type { Prepared } from './statements.ts';

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
  /** COM_STMT_PREPARE: what is prepared; COM_QUERY: the whole text as one statement, when several may be one. */
  statement: SqlStatement | undefined = undefined;
  prepared: Prepared | undefined = undefined;
  /** Executes what the COM_STMT_PREPARE before it prepares. */
  ofLastPrepared = false;
  /** COM_INIT_DB, COM_CHANGE_USER: the database that is asked for. */
  database = '';
  /** What it sets the client's character set to. */
  encoding: TextEncoding | undefined = undefined;
  /** The client has sent the content of the local file. */
  infileSent = false;
  /** Part of its answer was lost, or could not be read: its end cannot be told. */
  damage: IncompleteReason | undefined = undefined;

  clear(): void {
    this.exchange = undefined;
    this.statements = NO_STATEMENTS;
    this.index = 0;
    this.statement = undefined;
    this.prepared = undefined;
    this.ofLastPrepared = false;
    this.database = '';
    this.encoding = undefined;
    this.infileSent = false;
    this.damage = undefined;
  }
}

/** First in, first out. Its commands are made once and reused. */
export class CommandQueue {
  length = 0;
  /** Most commands that have waited at once. */
  deepest = 0;
  private ring: Command[] = [new Command()];
  private first = 0;

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
    this.ring[this.first]!.clear();
    this.first = (this.first + 1) % this.ring.length;
    this.length--;
  }

  release(): void {
    this.ring = [new Command()];
    this.first = 0;
    this.length = 0;
  }

  private grow(): void {
    const ring: Command[] = [];
    for (let i = 0; i < this.ring.length; i++) ring.push(this.ring[(this.first + i) % this.ring.length]!);
    while (ring.length < this.length * 2) ring.push(new Command());
    this.ring = ring;
    this.first = 0;
  }
}
