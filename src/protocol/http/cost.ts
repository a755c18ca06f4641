import { EXCHANGE_COST, headersCost, latin1Cost } from '../../memory/cost.ts';
import type { HttpExchange } from './exchange.ts';

/** @returns bytes that a finished HTTP exchange costs while it is kept (memory/cost.ts) */
export function httpCost({ target, requestHeaders, responseHeaders, responseTrailers }: HttpExchange): number {
  const fields = headersCost(requestHeaders) + headersCost(responseHeaders) + headersCost(responseTrailers);
  return EXCHANGE_COST + latin1Cost(target) + fields;
}
