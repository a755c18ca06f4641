import type { SqlExchange } from '../../exchange/sql.ts';
import { sqlDetails, sqlView } from '../../export/sql-view.ts';
import type { Viewer } from '../../export/view.ts';

/** What a person sees of a statement. */
export const postgresView: Viewer<SqlExchange> = {
  details: sqlDetails,
  view: (exchange) => sqlView(exchange, 'pg'),
};
