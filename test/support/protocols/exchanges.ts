/** Exchanges by their types: tests know all protocols, where the stages know only what is common to them. */
import type { Exchange } from '../../../src/exchange/exchange.ts';
import type { SqlExchange } from '../../../src/exchange/sql.ts';
import type { GrpcExchange } from '../../../src/protocol/grpc/exchange.ts';
import type { HttpExchange } from '../../../src/protocol/http/exchange.ts';
import type { RedisExchange } from '../../../src/protocol/redis/exchange.ts';
import type { WebSocketExchange } from '../../../src/protocol/websocket/exchange.ts';

type AnySqlExchange = SqlExchange & { readonly protocol: 'postgresql' | 'mysql' };
export type AnyExchange = HttpExchange | GrpcExchange | AnySqlExchange | WebSocketExchange | RedisExchange;

/** @returns the same, with a type that its protocol tells apart */
export function typed(exchange: Exchange): AnyExchange {
  return exchange as AnyExchange;
}
