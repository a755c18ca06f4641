import { sqlCost, sqlSpans } from '../../span/sql.ts';
import { createSqlAnalyser } from '../../sql/analyser.ts';
import { sqlSection } from '../../sql/config.ts';
import { defineProtocol } from '../module.ts';
import { mysqlLimits } from './limits.ts';
import { createMysqlProtocol } from './protocol.ts';
import { mysqlReasons } from './reasons.ts';
import { mysqlView } from './view.ts';

/** The MySQL Client/Server Protocol, with MariaDB's extensions. */
export const mysql = defineProtocol({
  name: 'mysql',
  title: 'MySQL',
  exchanges: 'SQL statements',
  page: 'mysql.md',
  reads: 'MySQL and MariaDB; statements without their values',
  ports: [3306],
  systems: ['mysql', 'mariadb'],
  config: { sql: sqlSection },
  limits: mysqlLimits,
  reasons: mysqlReasons,
  create({ config, limits, counters, memory }) {
    const analyser = createSqlAnalyser('mysql', config.sql, limits, counters.sql, memory);
    return { connections: () => [createMysqlProtocol({ analyser })] };
  },
  cost: sqlCost,
  view: mysqlView,
  spans: sqlSpans,
});
