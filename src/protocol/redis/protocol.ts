import { type Connection, type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import type { Detection } from '../layer.ts';
import { probeReply, probeRequest } from './probe.ts';

/**
 * Whether these are the first bytes of one end of a connection of Redis. A command as an array is known by its name; of an inline command
 * and of a reply, the other end must say so, too.
 */
export function detectRedis(
  direction: Direction,
  bytes: Buffer,
  start: number,
  end: number,
  connection: Connection,
): Detection {
  if (direction === FROM_CLIENT) return probeRequest(bytes, start, end);
  // A command from the end that was taken for the server's: they change places.
  if (!connection.startSeen && probeRequest(bytes, start, end) === 'yes') return 'no';
  return probeReply(bytes, start, end);
}
