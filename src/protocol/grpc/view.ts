import { andUnknown, between, type Unknown, type Viewer } from '../../export/view.ts';
import { unknownOf } from '../http/view.ts';
import type { GrpcExchange } from './exchange.ts';
import { errorType, readMethod, statusOf } from './span.ts';

/** What a person sees of a call. */
export const grpcView: Viewer<GrpcExchange> = {
  details: {
    method: '`package.Service/Method`.',
    status: 'Status of the call by its name.',
    httpStatusCode: 'Status of the HTTP response that carries the call.',
    requestMessages: 'Whole messages of the client.',
    responseMessages: 'Whole messages of the server.',
    requestCompressed: 'Compressed ones among them.',
    responseCompressed: 'Compressed ones among them.',
    timeoutUs: 'Time that the client gave the call, in microseconds.',
    userAgent: 'User-Agent of the request.',
    errorCode: 'HTTP/2 error code that ended the stream or its connection.',
  },
  view(exchange, { from }) {
    const { http, interimUs, requestMessages, responseMessages } = exchange;
    const status = statusOf(exchange, from);
    const error = errorType(http, from, status);
    const method = readMethod(http.target);
    const open = interimUs > 0;
    const startUs = http.startUs || http.responseStartUs || http.endUs;
    const streams = requestMessages > 1 || responseMessages > 1;
    return {
      protocolVersion: http.version || undefined,
      label: exchange.web ? 'grpc-web' : 'grpc',
      startUs,
      endUs: interimUs || Math.max(http.endUs, http.responseStartUs, http.requestEndUs, startUs),
      open,
      summary: method || '?',
      remark: streams ? `${counted(requestMessages)}/${counted(responseMessages)}` : '',
      outcome: open ? 'open' : (status ?? ''),
      severity: status === 'OK' || open ? 'ok' : status === undefined || error === status ? 'error' : 'warning',
      error,
      incomplete: http.incomplete,
      requestBytes: exchange.requestMessageBytes,
      responseBytes: exchange.responseMessageBytes,
      requestUs: between(http.startUs, http.requestEndUs),
      firstByteUs: between(http.startUs, http.responseStartUs),
      firstRowUs: undefined,
      firstMessageUs: between(http.startUs, exchange.firstMessageUs),
      details: {
        method: method || undefined,
        status,
        httpStatusCode: http.statusCode || undefined,
        requestMessages: requestMessages < 0 ? undefined : requestMessages,
        responseMessages: responseMessages < 0 ? undefined : responseMessages,
        requestCompressed: exchange.requestCompressed || undefined,
        responseCompressed: exchange.responseCompressed || undefined,
        timeoutUs: exchange.timeoutUs || undefined,
        userAgent: http.requestHeaders.get('user-agent')?.[0],
        errorCode: http.errorCode || undefined,
      },
      unknown: unknownOfCall(exchange, method, status),
    };
  },
};

function unknownOfCall(
  { http, interimUs, requestMessages, responseMessages }: GrpcExchange,
  method: string,
  status: string | undefined,
): readonly Unknown[] | undefined {
  // A call that goes on has not ended yet: nothing of it is missing.
  let unknown = interimUs > 0 ? undefined : unknownOf(http);
  if (method === '') unknown = andUnknown(unknown, 'method', http.target === '' ? 'not_seen' : 'not_certain');
  if (status === undefined && interimUs === 0) {
    unknown = andUnknown(unknown, 'status', http.incomplete ?? 'not_seen');
  }
  if (requestMessages < 0) unknown = andUnknown(unknown, 'requestMessages', 'gap');
  if (responseMessages < 0) unknown = andUnknown(unknown, 'responseMessages', 'gap');
  return unknown;
}

function counted(messages: number): string {
  return messages < 0 ? '?' : String(messages);
}
