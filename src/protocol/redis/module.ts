import { EXCHANGE_COST } from '../../memory/cost.ts';
import { defineProtocol } from '../module.ts';
import { redisLimits } from './limits.ts';
import { redisProtocol } from './protocol.ts';
import { redisReasons } from './reasons.ts';
import { redisSpans } from './span.ts';
import { redisView } from './view.ts';

/** Redis, and what speaks as it does: Valkey, KeyDB, Dragonfly. */
export const redis = defineProtocol({
  name: 'redis',
  title: 'Redis',
  exchanges: 'Redis commands',
  page: 'redis.md',
  reads: 'Redis, Valkey, KeyDB, Dragonfly; commands without their arguments',
  ports: [6379],
  systems: ['redis'],
  config: {},
  limits: redisLimits,
  reasons: redisReasons,
  cost: () => EXCHANGE_COST,
  view: redisView,
  spans: redisSpans,
  create: () => ({ connections: () => [redisProtocol] }),
});
