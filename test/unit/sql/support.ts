import {
  type BackslashRule,
  SqlAnalyser,
  type SqlAnalyserOptions,
  type TextEncoding,
} from '../../../src/sql/analyser.ts';
import type { SqlDialect, SqlStatement } from '../../../src/sql/statement.ts';

export function analyserOf(dialect: SqlDialect, options: Partial<SqlAnalyserOptions> = {}): SqlAnalyser {
  return new SqlAnalyser({ dialect, maxTextBytes: 2048, rawText: false, ignore: [], ...options });
}

/** Analyses a text that stands amid other bytes, so that reading past its ends shows. */
export function analyse(
  analyser: SqlAnalyser,
  text: string | Buffer,
  encoding: TextEncoding = 'utf8',
  backslash: BackslashRule = 'unknown',
): readonly SqlStatement[] {
  const { bytes, start, end } = framed(text);
  return analyser.analyse(bytes, start, end, encoding, backslash);
}

export function analyseOne(analyser: SqlAnalyser, text: string | Buffer): SqlStatement {
  const { bytes, start, end } = framed(text);
  const statement = analyser.analyseOne(bytes, start, end, 'utf8');
  if (statement === undefined) throw new Error(`no statement in ${text.toString()}`);
  return statement;
}

function framed(text: string | Buffer): { bytes: Buffer; start: number; end: number } {
  const content = Buffer.from(text);
  const bytes = Buffer.concat([Buffer.from(`'"x.`), content, Buffer.from(`-'"*/;`)]);
  return { bytes, start: 4, end: 4 + content.length };
}
