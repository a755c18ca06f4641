import type { ReasonTable } from '../../config/define.ts';

export const redisReasons: readonly ReasonTable[] = [
  {
    key: 'connections.opaque',
    title: 'Connections that are passed over from some point on',
    reasons: {
      redis_pubsub: {
        meaning: 'A connection of Redis that subscribes in RESP2: a message cannot be distinguished from a reply.',
      },
      redis_monitor: { meaning: 'A connection of Redis after MONITOR.' },
      redis_replication: { meaning: 'A replica of Redis, from SYNC or PSYNC on.' },
    },
  },
  {
    key: 'incomplete',
    title: 'Exchanges that are not whole, and messages that made none',
    reasons: {
      not_run: {
        meaning:
          'A statement or a command of a transaction that the server did not run, because of an error before it.',
      },
    },
  },
];
