import { AttributeBlock, type AttributeKey, KEY } from '../../span/attributes.ts';
import type { Candidate } from '../../span/candidate.ts';
import { DATABASE_CLIENT, DATABASE_SERVER, describeDatabaseEndpoint } from '../../span/database.ts';
import type { EndpointDescription, EndpointKey } from '../../span/endpoint.ts';
import type {
  ExchangeFacts,
  Instruments,
  MappedModule,
  MappingFactory,
  SeriesFacts,
  SpanMapping,
} from '../../span/mapping.ts';
import { errorOfIncomplete, setOutcome } from '../../span/outcome.ts';
import type { Peer } from '../../span/peer.ts';
import type { AttributeValue, Resource } from '../../span/resource.ts';
import type { EndpointName, Span } from '../../span/span.ts';
import { type Command, OTHER, SCRIPT } from './commands.ts';
import type { RedisExchange } from './exchange.ts';

/** A series of durations: its error is what the server answered. */
const STATUS_SAID = 1;

/** Semantic conventions for database metrics. */
function describeDuration(operation: string, code: number, error: string): Record<string, string> {
  return {
    [KEY.dbOperationName.name]: operation,
    ...(code === STATUS_SAID && { [KEY.dbResponseStatusCode.name]: error }),
    ...(error !== '' && { [KEY.errorType.name]: error }),
  };
}

const INSTRUMENTS: Instruments = { client: DATABASE_CLIENT, server: DATABASE_SERVER, describe: describeDuration };

/**
 * The attributes of a command by its name and the number of its arguments: encoders encode each block once. There are as many as names and
 * places in a text, so that none has to be forgotten.
 */
class CommandBlocks {
  private readonly blocks = new Map<Command, Map<string, AttributeBlock>>();

  blockOf({ command, argumentCount }: RedisExchange): AttributeBlock {
    const text = command.text(argumentCount);
    let ofCommand = this.blocks.get(command);
    if (ofCommand === undefined) {
      ofCommand = new Map();
      this.blocks.set(command, ofCommand);
    }
    let block = ofCommand.get(text);
    if (block === undefined) {
      const keys: AttributeKey[] = [KEY.dbOperationName];
      const values: AttributeValue[] = [command.name];
      if (text !== '') {
        keys.push(KEY.dbQueryText);
        values.push(text);
      }
      block = new AttributeBlock(keys, values);
      ofCommand.set(text, block);
    }
    return block;
  }
}

/**
 * How commands of Redis become spans (semantic conventions for Redis client operations, 1.44): each command has one, also within a pipeline
 * or a transaction. The commands of one write belong to one trace.
 */
export class RedisSpans implements SpanMapping<RedisExchange> {
  readonly protocols: readonly string[];
  readonly primary = 'client';
  readonly instruments = INSTRUMENTS;
  private readonly blocks = new CommandBlocks();
  /** db.system.name. */
  private readonly system: string;
  private readonly ports: readonly number[];
  /** Of this command. */
  private error = '';

  constructor({ name, ports, systems }: MappedModule) {
    this.protocols = [name];
    this.ports = ports;
    this.system = systems[0]!;
  }

  begin(exchange: RedisExchange, facts: ExchangeFacts): void {
    this.error = errorType(exchange);
    facts.startUs = exchange.startUs;
    facts.endUs = Math.max(exchange.endUs, exchange.startUs);
    facts.traceOffset = exchange.traceOffset;
    facts.spanOffset = exchange.streamOffset;
  }

  /** The protocol has no place for a context. */
  readContext(): boolean {
    return false;
  }

  describe(exchange: RedisExchange, candidate: Candidate): void {
    candidate.method = exchange.command.name;
    candidate.path = '';
    candidate.database = exchange.namespace;
    candidate.failed = this.error !== '';
    candidate.setTimes(exchange.startUs, exchange.endUs);
  }

  identify({ namespace }: RedisExchange, _endpoint: EndpointName, key: EndpointKey): void {
    key.system = this.system;
    key.detail = namespace;
  }

  describeEndpoint(
    { connection }: RedisExchange,
    endpoint: EndpointName,
    key: EndpointKey,
    peer: Peer | undefined,
  ): EndpointDescription {
    return describeDatabaseEndpoint(connection, endpoint, key, this.ports, peer);
  }

  setSeries(exchange: RedisExchange, _endpoint: EndpointName, _resource: Resource, series: SeriesFacts): void {
    series.name = exchange.command.name;
    series.code = this.error !== '' && this.error === exchange.statusCode ? STATUS_SAID : 0;
    series.error = this.error;
  }

  fill(span: Span, exchange: RedisExchange): void {
    const { command, argument, statusCode } = exchange;
    span.name = spanName(exchange, this.system);
    span.summary = command === OTHER ? '' : span.name;
    span.sharedToo = this.blocks.blockOf(exchange);
    if (exchange.batchSize >= 2) span.set(KEY.dbOperationBatchSize, exchange.batchSize);
    if (command.kind === SCRIPT && argument !== '') span.set(KEY.dbStoredProcedureName, argument);
    span.set(KEY.dbRequestSize, exchange.requestBytes);
    if (exchange.responseStartUs !== 0) span.set(KEY.dbResponseSize, exchange.responseBytes);
    if (exchange.batchCount > 1) {
      span.set(KEY.batchIndex, exchange.batchIndex);
      span.set(KEY.batchCount, exchange.batchCount);
    }
    if (statusCode !== '') span.set(KEY.dbResponseStatusCode, statusCode);
    setOutcome(span, exchange.incomplete, this.error);
  }
}

/** `{db.operation.name}`, with the name of a script where there is one; the system's name when the command is not known. */
function spanName({ command, argument }: RedisExchange, system: string): string {
  if (command === OTHER) return system;
  return command.kind === SCRIPT && argument !== '' ? `${command.name} ${argument}` : command.name;
}

/** The value of error.type, empty when the command did not fail: "All Redis error prefixes SHOULD be considered errors." */
export function errorType(exchange: RedisExchange): string {
  return exchange.failed ? exchange.statusCode || '_OTHER' : errorOfIncomplete(exchange.incomplete);
}

export const redisSpans: MappingFactory = (_options, module) => new RedisSpans(module);
