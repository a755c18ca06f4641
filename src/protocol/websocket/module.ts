import { EXCHANGE_COST } from '../../memory/cost.ts';
import { httpSection } from '../http/config.ts';
import { httpCost } from '../http/cost.ts';
import { httpLimits } from '../http/limits.ts';
import { defineProtocol } from '../module.ts';
import type { WebSocketExchange } from './exchange.ts';
import { createWebSocketLayer } from './layer.ts';
import { webSocketSpans } from './span.ts';
import { webSocketStreams } from './streams.ts';
import { webSocketView } from './view.ts';

/** WebSocket, behind an upgrade of HTTP/1.1 or on a stream of HTTP/2. */
export const websocket = defineProtocol({
  name: 'websocket',
  title: 'WebSocket',
  exchanges: 'WebSocket connections',
  page: 'websocket.md',
  reads: 'Over HTTP/1.1 and HTTP/2',
  ports: [],
  systems: [],
  config: { http: httpSection },
  limits: httpLimits,
  reasons: [],
  create: () => ({ http: { streams: [webSocketStreams], upgrades: { websocket: createWebSocketLayer } } }),
  cost: ({ handshake }: WebSocketExchange) => EXCHANGE_COST + httpCost(handshake),
  view: webSocketView,
  spans: webSocketSpans,
});
