import type { ReasonTable } from '../../config/define.ts';
import { sqlReasons } from '../../sql/reasons.ts';

export const postgresReasons: readonly ReasonTable[] = [
  {
    key: 'connections.opaque',
    title: 'Connections that are passed over from some point on',
    reasons: {
      postgresql_replication: { meaning: 'PostgreSQL replication.' },
      postgresql_gss: { meaning: 'GSSAPI encryption of PostgreSQL.' },
      postgresql_cancel: { meaning: 'A connection that only cancels the statement of another one.' },
    },
  },
  sqlReasons,
];
