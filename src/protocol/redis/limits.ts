/** What the parser of Redis is limited by. */
export interface RedisLimits {
  /** Commands of one connection that wait for their answer; a power of two. */
  redisPipelineDepth: number;
  /** Commands of one transaction whose outcome is awaited from EXEC. */
  redisQueuedCommands: number;
  /** Bytes of a server that come before the command that they answer. */
  redisEarlyBytes: number;
  /** Aggregates of a reply within each other. */
  redisReplyDepth: number;
  /** Messages of one connection that could not be parsed before the connection is given up. */
  redisParseErrors: number;
  /** Silence after which a connection that sends further commands before the answers is taken to be between two of them. */
  redisQuietUs: number;
}

export const defaultRedisLimits: RedisLimits = {
  redisPipelineDepth: 131_072,
  redisQueuedCommands: 16_384,
  redisEarlyBytes: 262_144,
  redisReplyDepth: 64,
  redisParseErrors: 16,
  redisQuietUs: 1_000_000,
};
