import { EXCHANGE_COST } from '../../memory/cost.ts';
import { httpSection } from '../http/config.ts';
import { httpCost } from '../http/cost.ts';
import { httpLimits } from '../http/limits.ts';
import { defineProtocol } from '../module.ts';
import { grpcSection } from './config.ts';
import type { GrpcExchange } from './exchange.ts';
import { createGrpcProtocol } from './protocol.ts';
import { grpcSpans } from './span.ts';
import { grpcView } from './view.ts';

/** gRPC on streams of HTTP/2, and gRPC-Web in bodies of HTTP/1. */
export const grpc = defineProtocol({
  name: 'grpc',
  title: 'gRPC',
  exchanges: 'gRPC calls',
  page: 'grpc.md',
  reads: 'gRPC and gRPC-Web: calls, their messages and status',
  ports: [],
  systems: [],
  config: { http: httpSection, grpc: grpcSection },
  limits: httpLimits,
  reasons: [],
  create({ config }) {
    const calls = [createGrpcProtocol(config.grpc)];
    return { http: { bodies: calls, streams: calls } };
  },
  cost: ({ http }: GrpcExchange) => EXCHANGE_COST + httpCost(http),
  view: grpcView,
  spans: grpcSpans,
});
