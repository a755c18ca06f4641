import { andUnknown, type Viewer } from '../../export/view.ts';
import type { WithHttp } from '../http/config.ts';
import { readTarget } from '../http/view.ts';
import type { WebSocketExchange } from './exchange.ts';
import { errorType } from './span.ts';

/** What a person sees of the life of a connection. */
export const webSocketView: Viewer<WebSocketExchange, WithHttp> = {
  details: {
    target: 'Target of the handshake. Secret values are replaced.',
    host: 'Server that the client asked for.',
    clientMessages: 'Whole messages of the client.',
    serverMessages: 'Whole messages of the server.',
    compressed: 'There were compressed messages.',
    closeCode: 'Close code (RFC 6455, 7.4).',
    closedBy: '`client` or `server`.',
    userAgent: 'User-Agent of the handshake.',
  },
  view(exchange, tools) {
    const { client, server, closeCode, incomplete, handshake } = exchange;
    const error = errorType(exchange);
    const { text, host } = readTarget(handshake, tools);
    return {
      protocolVersion: undefined,
      label: 'ws',
      startUs: exchange.startUs,
      endUs: Math.max(exchange.startUs, exchange.endUs),
      open: false,
      summary: `WS ${text}`,
      remark: `${client.messages} sent, ${server.messages} received`,
      outcome: closeCode === 0 ? '' : String(closeCode),
      severity: error === '' ? 'ok' : 'error',
      error,
      incomplete,
      requestBytes: client.bytes,
      responseBytes: server.bytes,
      requestUs: undefined,
      firstByteUs: undefined,
      firstRowUs: undefined,
      firstMessageUs: undefined,
      details: {
        target: text,
        host,
        clientMessages: client.messages,
        serverMessages: server.messages,
        compressed: exchange.compressed,
        closeCode: closeCode || undefined,
        closedBy: exchange.closedBy || undefined,
        userAgent: handshake.requestHeaders.get('user-agent')?.[0],
      },
      unknown:
        closeCode === 0
          ? andUnknown(undefined, 'closeCode', incomplete ?? 'not_seen')
          : incomplete && andUnknown(undefined, 'end', incomplete),
    };
  },
};
