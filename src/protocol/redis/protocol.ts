import { type Connection, type Direction, FROM_CLIENT } from '../../flow/connection.ts';
import type { Detection, LayerContext, Protocol } from '../layer.ts';
import { RedisLayer } from './layer.ts';
import type { RedisLimits } from './limits.ts';
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

/** RESP2 and RESP3, which Redis, Valkey, KeyDB and Dragonfly speak. */
export const redisProtocol: Protocol = {
  name: 'redis',
  detect: detectRedis,
  create: (context: LayerContext<RedisLimits>) => new RedisLayer(context),
};
