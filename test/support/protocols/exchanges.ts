/** Exchanges by their types: tests know all protocols, where the stages know only what is common to them. */
import type {
  Exchange,
  GrpcExchange,
  HttpExchange,
  SqlExchange,
  WebSocketExchange,
} from '../../../src/exchange/exchange.ts';

export type AnyExchange = HttpExchange | GrpcExchange | SqlExchange | WebSocketExchange;

/** @returns the same, with a type that its protocol tells apart */
export function typed(exchange: Exchange): AnyExchange {
  return exchange as AnyExchange;
}
