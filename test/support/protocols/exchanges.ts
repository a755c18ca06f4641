/** Exchanges by their types: tests know all protocols, where the stages know only what is common to them. */
import type {
  Exchange,
  GrpcExchange,
  HttpExchange,
  SqlExchange,
  WebSocketExchange,
} from '../../../src/exchange/exchange.ts';
import type { RedisExchange } from '../../../src/protocol/redis/exchange.ts';

export type AnyExchange = HttpExchange | GrpcExchange | SqlExchange | WebSocketExchange | RedisExchange;

/** @returns the same, with a type that its protocol tells apart */
export function typed(exchange: Exchange): AnyExchange {
  return exchange as AnyExchange;
}
