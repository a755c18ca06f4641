import type { LimitDefinitions, LimitValues } from '../../config/define.ts';

export const redisLimits = {
  redisPipelineDepth: {
    value: 131_072,
    unit: 'count',
    meaning: 'Commands of one Redis connection that wait for their reply. Beyond it all that wait are given up.',
    counted: 'incomplete: limit',
  },
  redisQueuedCommands: {
    value: 16_384,
    unit: 'count',
    meaning: 'Commands of one Redis transaction whose outcome is awaited from EXEC.',
    counted: 'incomplete: limit',
  },
  redisEarlyBytes: {
    value: 256 * 1024,
    unit: 'bytes',
    meaning: 'Bytes of a Redis server that come before the command that they answer.',
    counted: 'incomplete: request_not_seen',
  },
  redisReplyDepth: {
    value: 64,
    unit: 'count',
    meaning: 'Aggregates of a Redis reply within each other. A deeper reply cannot be parsed.',
    counted: 'incomplete: protocol_error',
  },
  redisParseErrors: {
    value: 16,
    unit: 'count',
    meaning: 'Messages of one Redis connection that could not be parsed before it is given up.',
    counted: 'connections.givenUp: protocol_error',
  },
  redisQuietUs: {
    value: 1_000_000,
    unit: 'us',
    meaning: 'Silence after which a Redis connection that pipelines is taken to be between two commands, after a gap.',
  },
} as const satisfies LimitDefinitions;

export type RedisLimits = LimitValues<typeof redisLimits>;
