import type { Exchange, HttpExchange } from '../exchange/exchange.ts';
import { EXCHANGE_COST, headersCost, latin1Cost, statementCost } from '../memory/cost.ts';

/** @returns bytes that a finished exchange costs while it is kept (memory/cost.ts); always the same for one exchange */
export function exchangeCost(exchange: Exchange): number {
  switch (exchange.protocol) {
    case 'http':
      return httpCost(exchange);
    case 'grpc':
      return EXCHANGE_COST + httpCost(exchange.http);
    case 'websocket':
      return EXCHANGE_COST + httpCost(exchange.handshake);
    case 'postgresql':
    case 'mysql':
      return EXCHANGE_COST + (exchange.statement === undefined ? 0 : statementCost(exchange.statement));
    default:
      return exchange satisfies never;
  }
}

function httpCost({ target, requestHeaders, responseHeaders, responseTrailers }: HttpExchange): number {
  const fields = headersCost(requestHeaders) + headersCost(responseHeaders) + headersCost(responseTrailers);
  return EXCHANGE_COST + latin1Cost(target) + fields;
}
