import type { Exchange } from '../../../src/exchange/exchange.ts';
import type { SqlExchange } from '../../../src/exchange/sql.ts';
import { type ConsoleStyle, formatView } from '../../../src/export/console.ts';
import type { ExchangeView } from '../../../src/export/view.ts';
import { type LeftOut, type Seen, Views } from '../../../src/export/views.ts';
import type { Connection } from '../../../src/flow/connection.ts';
import type { GrpcExchange } from '../../../src/protocol/grpc/exchange.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import { protocolMappings, protocolViewers } from '../../../src/protocol/registry.ts';
import { SpanBuilder, type SpanBuilderOptions } from '../../../src/span/builder.ts';
import type { Resource, ResourceResolver } from '../../../src/span/resource.ts';
import type { Span } from '../../../src/span/span.ts';
import type { SqlStatement } from '../../../src/sql/statement.ts';
import { identityClock } from '../../../src/telemetry/clock.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { sections } from '../wire/protocols.ts';

export const CLIENT_SOCKET = 11;
export const SERVER_SOCKET = 22;
export const curl: Resource = { name: 'curl', attributes: { 'service.name': 'curl', 'process.pid': 7 } };
export const nginx: Resource = { name: 'nginx', attributes: { 'service.name': 'nginx', 'process.pid': 8 } };

export interface ConnectionShape extends Partial<Omit<Connection, 'client' | 'server'>> {
  client?: Partial<Connection['client']>;
  server?: Partial<Connection['server']>;
}

/** A plain connection of 192.0.2.1:40000 to 198.51.100.2:80, both sockets known. */
export function connection(shape: ConnectionShape = {}): Connection {
  return {
    id: 1,
    startSeen: true,
    initialSequence: [1000, 2000],
    startUs: 5,
    tls: undefined,
    awaitingSecret: false,
    spanState: undefined,
    ...shape,
    client: { address: '192.0.2.1', port: 40000, socket: CLIENT_SOCKET, ...shape.client },
    server: { address: '198.51.100.2', port: 80, socket: SERVER_SOCKET, ...shape.server },
  };
}

export function tls(fill = 1): NonNullable<Connection['tls']> {
  return {
    version: '1.3',
    cipherSuite: 'TLS_AES_128_GCM_SHA256',
    serverName: undefined,
    alpn: undefined,
    clientRandom: Buffer.alloc(32, fill),
  };
}

export function headers(fields: Readonly<Record<string, string | readonly string[]>>): Map<string, readonly string[]> {
  return new Map(Object.entries(fields).map(([name, value]) => [name, typeof value === 'string' ? [value] : value]));
}

/** GET /orders/17 answered by 200. */
export function exchange(changes: Partial<HttpExchange> = {}): HttpExchange {
  return {
    protocol: 'http',
    connection: connection(),
    version: '1.1',
    method: 'GET',
    target: '/orders/17',
    scheme: '',
    statusCode: 200,
    requestHeaders: headers({ host: 'shop.example' }),
    responseHeaders: new Map(),
    responseTrailers: new Map(),
    startUs: 1_700_000_000_000_000.5,
    requestEndUs: 1_700_000_000_000_010,
    responseStartUs: 1_700_000_000_000_100.5,
    endUs: 1_700_000_000_000_250.5,
    requestBodyBytes: 0,
    responseBodyBytes: 1200,
    streamOffset: 0,
    incomplete: undefined,
    errorCode: '',
    ...changes,
  };
}

/** A unary call that went well. */
export function call(changes: Partial<GrpcExchange> = {}, http: Partial<HttpExchange> = {}): GrpcExchange {
  const carrier = exchange({
    connection: changes.connection ?? connection(),
    version: '2',
    method: 'POST',
    target: '/shop.v1.Orders/Get',
    requestHeaders: headers({ host: 'shop.example:50051', 'user-agent': 'grpc-go/1.70' }),
    ...http,
  });
  return {
    protocol: 'grpc',
    connection: carrier.connection,
    http: carrier,
    incomplete: carrier.incomplete,
    web: false,
    statusCode: 0,
    timeoutUs: 1_500_000,
    requestMessages: 1,
    responseMessages: 1,
    requestCompressed: 0,
    responseCompressed: 0,
    requestMessageBytes: 20,
    responseMessageBytes: 842,
    firstMessageUs: 1_700_000_000_000_150.5,
    interimUs: 0,
    ...changes,
  };
}

/** A statement that reads one table. */
export function statement(changes: Partial<SqlStatement> = {}): SqlStatement {
  return {
    text: 'SELECT * FROM orders WHERE id = ?',
    truncated: false,
    summary: 'SELECT orders',
    operation: 'SELECT',
    collection: 'orders',
    storedProcedure: '',
    traceparent: '',
    tracestate: '',
    ignored: false,
    effect: undefined,
    ...changes,
  };
}

/** Asks PostgreSQL at its own port for three rows, within a transaction. */
export function sqlExchange(changes: Partial<SqlExchange> = {}): SqlExchange {
  return {
    protocol: 'postgresql',
    connection: connection({ server: { port: 5432 } }),
    system: 'postgresql',
    statement: statement(),
    namespace: 'shop',
    prepared: false,
    batchSize: 1,
    batchIndex: 0,
    batchCount: 1,
    transaction: 'active',
    traceparent: '',
    tracestate: '',
    statusCode: '',
    failed: false,
    startUs: 1_700_000_000_000_000.5,
    responseStartUs: 1_700_000_000_000_100.5,
    firstRowUs: 1_700_000_000_000_150.5,
    endUs: 1_700_000_000_001_250.5,
    returnedRows: 3,
    affectedRows: -1,
    requestBytes: 40,
    responseBytes: 842,
    traceOffset: 100,
    streamOffset: 100,
    incomplete: undefined,
    ...changes,
  };
}

/** The same of MySQL. */
export function mysqlExchange(changes: Partial<SqlExchange> = {}): SqlExchange {
  return sqlExchange({
    protocol: 'mysql',
    system: 'mysql',
    connection: connection({ server: { port: 3306 } }),
    ...changes,
  });
}

/** The two processes above. */
export const bothKnown: ResourceResolver = {
  resourceOf: (cookie) => (cookie === CLIENT_SOCKET ? curl : cookie === SERVER_SOCKET ? nginx : undefined),
};
const NEITHER: LeftOut = { client: 'perspective', server: 'perspective' };

export function views(): Views {
  return new Views({
    viewers: protocolViewers,
    clock: identityClock,
    resources: bothKnown,
    config: sections(),
  });
}

/** What outputs get beside an exchange and its spans. */
export function seen(exchange: Exchange, spans: readonly Span[], leftOut = NEITHER): Seen {
  const made = views();
  made.show(exchange, spans, leftOut);
  return made;
}

/** The view of an exchange with these spans. */
export function viewOf(exchange: Exchange, spans: readonly Span[], leftOut?: LeftOut): ExchangeView {
  return seen(exchange, spans, leftOut).view;
}

/** The console's line of an exchange with these spans. */
export function formatExchange(exchange: Exchange, spans: readonly Span[], style: ConsoleStyle): string {
  return formatView(viewOf(exchange, spans), style);
}

export function builder(options: Partial<SpanBuilderOptions> = {}): SpanBuilder {
  return new SpanBuilder({
    mappings: protocolMappings,
    perspective: 'auto',
    resources: bothKnown,
    clock: identityClock,
    counters: newCounters(),
    config: sections(),
    ...options,
  });
}
