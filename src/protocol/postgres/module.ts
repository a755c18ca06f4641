import { sqlCost, sqlSpans } from '../../span/sql.ts';
import { createSqlAnalyser } from '../../sql/analyser.ts';
import { sqlSection } from '../../sql/config.ts';
import { sqlLimits } from '../../sql/limits.ts';
import { defineProtocol } from '../module.ts';
import { createPostgresProtocol } from './protocol.ts';
import { postgresReasons } from './reasons.ts';
import { postgresView } from './view.ts';

/** PostgreSQL's protocol 3. */
export const postgresql = defineProtocol({
  name: 'postgresql',
  title: 'PostgreSQL',
  exchanges: 'SQL statements',
  page: 'postgresql.md',
  reads: 'Protocol 3; statements without their values',
  ports: [5432],
  systems: ['postgresql'],
  config: { sql: sqlSection },
  limits: sqlLimits,
  reasons: postgresReasons,
  create({ config, limits, counters, memory }) {
    const analyser = createSqlAnalyser('postgresql', config.sql, limits, counters.sql, memory);
    return { connections: () => [createPostgresProtocol(analyser)] };
  },
  cost: sqlCost,
  view: postgresView,
  spans: sqlSpans,
});
