import type { HttpExchange } from '../http/exchange.ts';
import type { StreamProtocol } from '../http2/observer.ts';
import type { LayerContext } from '../layer.ts';
import { GrpcCall, variantOf } from './call.ts';

/** `grpc` of the configuration has these keys. */
export interface GrpcOptions {
  /** A call that lasts this long, in seconds, is said once before its end; 0: never. */
  readonly interimSpanS: number;
}

/**
 * gRPC (doc/PROTOCOL-HTTP2.md of github.com/grpc/grpc) and gRPC-Web (doc/PROTOCOL-WEB.md): calls by the content type of their request,
 * or of their response where that of the request is not known. grpc-message and grpc-status-details-bin are never kept.
 */
export function createGrpcProtocol({ interimSpanS }: GrpcOptions = { interimSpanS: 0 }): StreamProtocol {
  return {
    fields: ['content-type', 'grpc-status', 'grpc-timeout'],
    open(contentType: string, exchange: HttpExchange, context: LayerContext): GrpcCall | undefined {
      const variant = variantOf(contentType);
      if (variant === undefined || (exchange.method !== 'POST' && exchange.method !== '')) return undefined;
      const asked = exchange.requestHeaders.get('content-type')?.[0];
      // Before HTTP/2 there is only gRPC-Web.
      if (variant === 'grpc' && exchange.version !== '2') return undefined;
      if (asked !== undefined && variantOf(asked) === undefined) return undefined;
      return new GrpcCall(variant, exchange, context, interimSpanS * 1e6);
    },
  };
}
