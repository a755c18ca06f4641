import { httpSection } from '../http/config.ts';
import { httpLimits } from '../http/limits.ts';
import { defineProtocol } from '../module.ts';
import { createWebSocketLayer } from './layer.ts';
import { webSocketStreams } from './streams.ts';

/** WebSocket, behind an upgrade of HTTP/1.1 or on a stream of HTTP/2. */
export const websocket = defineProtocol({
  name: 'websocket',
  title: 'WebSocket',
  exchanges: 'WebSocket connections',
  page: 'websocket.md',
  ports: [],
  systems: [],
  config: { http: httpSection },
  limits: httpLimits,
  reasons: [],
  create: () => ({ http: { streams: [webSocketStreams], upgrades: { websocket: createWebSocketLayer } } }),
});
