import { RAISE_LIMIT, type ReasonTable } from '../../config/define.ts';
import { sqlReasons } from '../../sql/reasons.ts';

export const mysqlReasons: readonly ReasonTable[] = [
  {
    key: 'connections.opaque',
    title: 'Connections that are passed over from some point on',
    reasons: {
      mysql_binlog: { meaning: 'MySQL replication.' },
      mysql_copy: { meaning: 'A copy of a table between MySQL servers.' },
    },
  },
  sqlReasons,
  {
    key: sqlReasons.key,
    title: sqlReasons.title,
    reasons: {
      results_limit: { meaning: 'The results of a text were too many to be assigned to its statements.' },
      compressed_limit: {
        meaning: 'A compressed packet is larger than `limits.mysql_compressed_bytes`.',
        action: RAISE_LIMIT,
      },
    },
  },
];
