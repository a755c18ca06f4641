import { sqlSpans } from '../../span/sql.ts';

/** How the statements of PostgreSQL become spans: what is not common to all SQL databases. */
export const postgresqlSpans = sqlSpans('postgresql', 5432);
