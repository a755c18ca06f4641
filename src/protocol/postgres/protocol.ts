import { type Connection, type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import type { SqlAnalyser } from '../../sql/analyser.ts';
import type { SqlLimits } from '../../sql/limits.ts';
import type { Detection, LayerContext, Protocol } from '../layer.ts';
import { PostgresLayer } from './layer.ts';
import { probeBackend, probeFrontend } from './probe.ts';
import { probePacket } from './startup.ts';

/** What a server may say to SSLRequest and GSSENCRequest. */
const ONE_BYTE_ANSWERS = 'SNG';

/**
 * PostgreSQL's protocol 3. Its name is also its ALPN identifier.
 *
 * @param analyser of the texts, for PostgreSQL's dialect
 */
export function createPostgresProtocol(analyser: SqlAnalyser): Protocol {
  return {
    name: 'postgresql',
    alpn: ['postgresql'],
    detect(direction: Direction, bytes: Buffer, start: number, end: number, connection: Connection): Detection {
      if (direction === FROM_CLIENT) {
        const packet = probePacket(bytes, start, end);
        if (packet !== 'no') return packet;
        const messages = probeFrontend(bytes, start, end);
        // A connection whose start was seen begins with a packet, unless that was lost.
        return connection.startSeen && messages !== 'yes' ? 'no' : messages;
      }
      const messages = probeBackend(bytes, start, end);
      if (messages !== 'no' || !ONE_BYTE_ANSWERS.includes(String.fromCharCode(bytes[start]!))) return messages;
      return end - start === 1 ? 'maybe' : probeBackend(bytes, start + 1, end);
    },
    create: (context: LayerContext<SqlLimits>) => new PostgresLayer(context, analyser),
  };
}
