/** The mappings of all protocols that have spans. */
import { grpcSpans } from '../protocol/grpc/span.ts';
import { httpSpans } from '../protocol/http/span.ts';
import { mysqlSpans } from '../protocol/mysql/span.ts';
import { postgresqlSpans } from '../protocol/postgres/span.ts';
import { webSocketSpans } from '../protocol/websocket/span.ts';
import type { MappingFactory } from './mapping.ts';

export const defaultMappings: readonly MappingFactory[] = [
  httpSpans,
  grpcSpans,
  postgresqlSpans,
  mysqlSpans,
  webSocketSpans,
];
