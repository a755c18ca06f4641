import type { Connection, Direction, Layer } from '../../flow/connection.ts';
import type { HttpExchange } from '../http/exchange.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { Detection, LayerContext, Protocol } from '../layer.ts';
import { probeHttp2 } from './frames.ts';
import { Http2Layer } from './layer.ts';
import { FieldNames } from './names.ts';
import type { StreamProtocol } from './observer.ts';
import { Stream } from './stream.ts';

export interface Http2Options {
  /** Lower-case names of the fields whose values later stages want. All others are passed over. */
  readonly keepHeaders: ReadonlySet<string>;
  /** What looks into the bodies of streams. */
  readonly streams?: readonly StreamProtocol[];
}

export interface Http2Protocol extends Protocol {
  /**
   * The layer for a connection that was upgraded from HTTP/1.1 (RFC 7540 section 3.2).
   *
   * @param request what stream 1 answers
   * @param offsets bytes of each direction that went before
   */
  createUpgraded(context: LayerContext<HttpLimits>, request: HttpExchange, offsets: readonly [number, number]): Layer;
}

/** Wanted beside what the configuration asks for: what names a protocol on top of HTTP/2, and the one field that says how it went. */
const OWN_FIELDS = ['content-type', 'grpc-status'];

/** HTTP/2 (RFC 9113): by ALPN, by its preface, by an upgrade, and joined between two frames. */
export function createHttp2Protocol(options: Http2Options): Http2Protocol {
  const protocols = options.streams ?? [];
  const fields = protocols.flatMap((protocol) => protocol.fields);
  const names = new FieldNames(new Set([...options.keepHeaders, ...OWN_FIELDS, ...fields]));
  return {
    name: 'http2',
    alpn: ['h2'],
    detect(direction: Direction, bytes: Buffer, start: number, end: number, _connection: Connection): Detection {
      return probeHttp2(direction, bytes, start, end);
    },
    create: (context: LayerContext<HttpLimits>) => new Http2Layer(context, names, protocols),
    createUpgraded(context, request, offsets) {
      const stream = new Stream(context.connection, 1);
      stream.method = request.method;
      stream.target = request.target;
      stream.requestHeaders = request.requestHeaders;
      stream.startUs = request.startUs;
      stream.requestEndUs = request.requestEndUs;
      stream.requestBodyBytes = request.requestBodyBytes;
      stream.streamOffset = request.streamOffset;
      return new Http2Layer(context, names, protocols, { stream, offsets });
    },
  };
}
