import type { ExchangeBase, IncompleteReason } from '../../exchange/exchange.ts';
import type { Connection } from '../../flow/connection.ts';
import type { Command } from './commands.ts';

/** Commands that one write of the client brought. */
export class Pipeline {
  /** As far as it was seen. */
  count = 1;
  /** Offset of the first command. */
  readonly offset: number;

  constructor(offset: number) {
    this.offset = offset;
  }
}

/** One command that a server was asked to run, with its outcome, or without. */
export class RedisExchange implements ExchangeBase {
  readonly protocol = 'redis';
  readonly connection: Connection;
  readonly command: Command;
  /** Number of its arguments, its name included. */
  readonly argumentCount: number;
  /** The database by its number when the command ran; empty when it is not known. */
  namespace = '';
  /** Of SELECT the database, of FCALL the function, of EVALSHA the SHA1 of the script; else, and when it is no such word, empty. */
  readonly argument: string;
  /** The first word of an error, such as `WRONGTYPE`; empty when the server reported none, or one without such a word. */
  statusCode = '';
  /** The server answered with an error. */
  failed = false;
  /** The server gives no answer: CLIENT REPLY OFF and SKIP. */
  unanswered = false;
  /** Of EXEC: how many commands it ran; else 1. */
  batchSize = 1;
  /** Position among the commands of one write, from 0; and how many there are, as far as known. 0 and 1 for a command alone. */
  readonly batchIndex: number;
  batchCount = 1;
  /** First byte of the command; first and last byte of the answer. 0 = not seen. An incomplete exchange ends when it is given up. */
  readonly startUs: number;
  responseStartUs = 0;
  endUs = 0;
  /** Bytes of the command and of the answer as transferred. */
  readonly requestBytes: number;
  responseBytes = 0;
  /** Offset of the write's first command in the client's application byte stream: the trace's id. */
  readonly traceOffset: number;
  /** Offset of the command itself: the span's id. */
  readonly streamOffset: number;
  incomplete: IncompleteReason | undefined = undefined;

  constructor(
    connection: Connection,
    command: Command,
    argumentCount: number,
    argument: string,
    startUs: number,
    offset: number,
    requestBytes: number,
    pipeline: Pipeline | undefined,
    batchIndex: number,
  ) {
    this.connection = connection;
    this.command = command;
    this.argumentCount = argumentCount;
    this.argument = argument;
    this.startUs = startUs;
    this.streamOffset = offset;
    this.requestBytes = requestBytes;
    this.traceOffset = pipeline?.offset ?? offset;
    this.batchIndex = batchIndex;
  }
}
