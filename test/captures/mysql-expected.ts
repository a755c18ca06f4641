import { readFileSync } from 'node:fs';

/** One statement as it was answered: -1 for what its answer does not have. */
export interface StatementFacts {
  text: string;
  prepared: boolean;
  rows: number;
  affected: number;
  /** 0 for success. */
  error: number;
}

export interface MysqlFacts {
  /** TCP streams in the order of their first statement. */
  streams: StatementFacts[][];
}

/** The captures that hold MySQL, by their names under data/. */
export const MYSQL_CAPTURES = ['mysql-prepared-big-values.pcap.gz', 'mysql-text-queries.pcap.gz'] as const;

/** What tshark said of them; written by mysql-facts.ts. */
export function readMysqlFacts(): { source: string; captures: Record<string, MysqlFacts> } {
  return JSON.parse(readFileSync(new URL('mysql.json', import.meta.url), 'utf8')) as ReturnType<typeof readMysqlFacts>;
}
