import { type Connection, type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import type { HttpLimits } from '../http/limits.ts';
import type { StreamProtocol } from '../http2/observer.ts';
import type { Detection, LayerContext, Protocol } from '../layer.ts';
import type { Upgrades } from './dialogue.ts';
import { FieldTable } from './fields.ts';
import { probeRequest, probeResponse } from './grammar.ts';
import { Http1Layer } from './layer.ts';

export interface Http1Options extends Upgrades {
  /** Lower-case names of the fields whose values later stages want. All others are passed over. */
  readonly keepHeaders: ReadonlySet<string>;
  /** What looks into bodies, chosen by the content type of the request alone. */
  readonly bodies?: readonly StreamProtocol[];
}

/** HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112). */
export function createHttp1Protocol(options: Http1Options): Protocol {
  const bodies = options.bodies ?? [];
  const table = new FieldTable(new Set([...options.keepHeaders, ...bodies.flatMap((protocol) => protocol.fields)]));
  return {
    name: 'http',
    alpn: ['http/1.1', 'http/1.0'],
    detect(direction: Direction, bytes: Buffer, start: number, end: number, connection: Connection): Detection {
      return direction === FROM_CLIENT
        ? probeRequest(bytes, start, end, !connection.startSeen)
        : probeResponse(bytes, start, end);
    },
    create: (context: LayerContext<HttpLimits>) => new Http1Layer(context, table, options, bodies),
  };
}
