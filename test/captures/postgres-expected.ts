import { readFileSync } from 'node:fs';

/** One CommandComplete or ErrorResponse that ends a statement. */
export interface AnswerFacts {
  /** Of CommandComplete; empty for an error. */
  tag: string;
  /** SQLSTATE; empty for success. */
  code: string;
  /** DataRow messages since the answer before it. */
  rows: number;
}

export interface PostgresStreamFacts {
  /** Texts of Query and Parse, in their order. */
  texts: string[];
  answers: AnswerFacts[];
}

/** The captures that hold PostgreSQL, by their names under data/. */
export const POSTGRES_CAPTURES = [
  'postgresql-tls12.pcap.gz',
  'postgresql-failed-transaction.pcap.gz',
  'postgresql18-drivers.pcap.gz',
] as const;

/** What tshark said of them, by TCP stream; written by postgres-facts.ts. */
export function readPostgresFacts(): { source: string; captures: Record<string, PostgresStreamFacts[]> } {
  return JSON.parse(readFileSync(new URL('postgres.json', import.meta.url), 'utf8')) as ReturnType<
    typeof readPostgresFacts
  >;
}
