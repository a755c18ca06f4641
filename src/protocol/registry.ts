import { defaultLimits, type Limits } from '../config/limits.ts';
import type { MemoryBudget } from '../memory/budget.ts';
import { SqlAnalyser, type SqlAnalyserOptions } from '../sql/analyser.ts';
import type { SqlDialect } from '../sql/statement.ts';
import type { ReasonCounts } from '../telemetry/counters.ts';
import { createGrpcProtocol, type GrpcOptions } from './grpc/protocol.ts';
import { createHttp1Protocol } from './http1/protocol.ts';
import { createHttp2Protocol } from './http2/protocol.ts';
import type { Protocol } from './layer.ts';
import { createMysqlProtocol } from './mysql/protocol.ts';
import { createPostgresProtocol } from './postgres/protocol.ts';
import { createWebSocketLayer } from './websocket/layer.ts';
import { webSocketStreams } from './websocket/streams.ts';

/** What finds out about SQL texts, one per dialect: its cache serves all connections. */
export type SqlAnalysers = Readonly<Record<SqlDialect, SqlAnalyser>>;

/** `sql` of the configuration has these keys. */
export type SqlTextOptions = Pick<SqlAnalyserOptions, 'maxTextBytes' | 'rawText' | 'ignore'>;

export const defaultSqlTextOptions: SqlTextOptions = { maxTextBytes: 2048, rawText: false, ignore: [] };

/** @param counts counts the texts that did not leave, by why */
export function createSqlAnalysers(
  { maxTextBytes, rawText, ignore }: SqlTextOptions,
  limits: Pick<Limits, 'sqlCachedTexts' | 'sqlCachedTextBytes' | 'sqlCacheBytes'> = defaultLimits,
  counts?: ReasonCounts,
  memory?: MemoryBudget,
): SqlAnalysers {
  const { sqlCachedTexts: cacheEntries, sqlCachedTextBytes: cacheTextBytes, sqlCacheBytes: cacheBytes } = limits;
  const options = {
    maxTextBytes,
    rawText,
    ignore,
    cacheEntries,
    cacheTextBytes,
    cacheBytes,
    memory,
    ...(counts !== undefined && { counts }),
  };
  const make = (dialect: SqlDialect) => new SqlAnalyser({ dialect, ...options });
  return { postgresql: make('postgresql'), mysql: make('mysql') };
}

export interface ProtocolOptions {
  /** Lower-case names of the HTTP header fields whose values later stages want. */
  readonly keepHeaders: ReadonlySet<string>;
  readonly sql: SqlAnalysers;
  readonly grpc?: GrpcOptions;
}

/** The application protocols that are looked for, in plain text and inside TLS. A new protocol is one more line here. */
export function createProtocols(options: ProtocolOptions): readonly Protocol[] {
  const { keepHeaders } = options;
  const bodies = [createGrpcProtocol(options.grpc)];
  const http2 = createHttp2Protocol({ keepHeaders, streams: [...bodies, webSocketStreams] });
  return [
    createHttp1Protocol({
      keepHeaders,
      upgradeToHttp2: http2.createUpgraded,
      upgradeToWebSocket: createWebSocketLayer,
      bodies,
    }),
    http2,
    createPostgresProtocol(options.sql.postgresql),
    createMysqlProtocol({ analyser: options.sql.mysql }),
  ];
}
