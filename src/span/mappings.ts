/** The mappings of all protocols that have spans. */
import { grpcSpans } from './grpc.ts';
import { httpSpans } from './http.ts';
import type { MappingFactory } from './mapping.ts';
import { sqlSpans } from './sql.ts';
import { webSocketSpans } from './websocket.ts';

export const defaultMappings: readonly MappingFactory[] = [httpSpans, grpcSpans, sqlSpans, webSocketSpans];
