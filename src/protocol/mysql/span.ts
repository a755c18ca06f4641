import { sqlSpans } from '../../span/sql.ts';

/** How the statements of MySQL and MariaDB become spans: what is not common to all SQL databases. */
export const mysqlSpans = sqlSpans('mysql', 3306);
