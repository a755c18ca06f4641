import type { LimitDefinitions, LimitValues } from '../../config/define.ts';
import { sqlLimits } from '../../sql/limits.ts';

export const mysqlLimits = {
  ...sqlLimits,
  mysqlCompressedBytes: {
    value: 16 * 1024 * 1024,
    unit: 'bytes',
    meaning: 'Bytes of one compressed MySQL packet, before and after compression.',
    counted: 'sql: compressed_limit',
  },
  mysqlEarlyBytes: {
    value: 64 * 1024,
    unit: 'bytes',
    meaning: 'Bytes of a MySQL server that come before the command that they answer.',
    counted: 'incomplete: gap',
  },
  mysqlHeldResults: {
    value: 64,
    unit: 'count',
    meaning: 'Results of one MySQL text that are held until it is known which of its statements they belong to.',
    counted: 'sql: results_limit',
  },
} as const satisfies LimitDefinitions;

export type MysqlLimits = LimitValues<typeof mysqlLimits>;
