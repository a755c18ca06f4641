/** What tests of SQL ask of spans. */

import type { SqlAnalyser } from '../../../src/sql/analyser.ts';
import type { SqlDialect, SqlStatement } from '../../../src/sql/statement.ts';
import type { FlatSpan } from '../otlp/spans.ts';
import { newSqlAnalyser } from '../wire/protocols.ts';

const analysers = Object.fromEntries(
  (['postgresql', 'mysql'] as const).map((dialect) => [dialect, newSqlAnalyser(dialect)]),
) as Record<SqlDialect, SqlAnalyser>;

/** The statements of a text, as a server's log has it: what the spans should say of it. */
export function statementsOf(dialect: SqlDialect, text: string, one = false): readonly SqlStatement[] {
  const bytes = Buffer.from(text);
  // Servers say how backslashes are read; these have the default of their kind.
  const rule = dialect === 'postgresql' ? 'literal' : 'escape';
  if (!one) return analysers[dialect].analyse(bytes, 0, bytes.length, 'utf8', rule);
  const statement = analysers[dialect].analyseOne(bytes, 0, bytes.length, 'utf8', rule);
  return statement === undefined ? [] : [statement];
}

/** Spans of the CLIENT end that belong to this port: other programs of the machine are watched too. */
export function sqlOfPort(port: number): (span: FlatSpan) => boolean {
  return (span) => span.attributes['server.port'] === port && span.attributes['db.system.name'] !== undefined;
}

export const textOf = (span: FlatSpan): string => String(span.attributes['db.query.text'] ?? '');
export const namespaceOf = (span: FlatSpan): string => String(span.attributes['db.namespace'] ?? '');
export const incompleteOf = (span: FlatSpan): string => String(span.attributes['wirespan.exchange.incomplete'] ?? '');

/** Rows that were returned, else rows that were changed, else 0. */
export function rowsOf(span: FlatSpan): number {
  return Number(
    span.attributes['db.response.returned_rows'] ?? span.attributes['wirespan.db.response.affected_rows'] ?? 0,
  );
}

export function tally(lines: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of lines) counts.set(line, (counts.get(line) ?? 0) + 1);
  return counts;
}

/** What is missing among the spans (`-`) and what is too much (`+`), with how many; empty when both are the same. */
export function differences(spans: readonly string[], truth: readonly string[]): string[] {
  const have = tally(spans);
  const wanted = tally(truth);
  return [...new Set([...have.keys(), ...wanted.keys()])].sort().flatMap((line) => {
    const by = (have.get(line) ?? 0) - (wanted.get(line) ?? 0);
    return by === 0 ? [] : [`${by > 0 ? `+${by}` : by} ${line}`];
  });
}

/** Lines of a table: a row per name, a column per feature. */
export function tableLines(rows: ReadonlyMap<string, ReadonlyMap<string, string>>): string[] {
  const columns = [...new Set([...rows.values()].flatMap((row) => [...row.keys()]))];
  const width = Math.max(...[...rows.keys()].map((name) => name.length));
  const widths = columns.map((column) => Math.max(column.length, 4));
  const line = (name: string, cells: readonly string[]) =>
    `${name.padEnd(width)} ${cells.map((cell, index) => cell.padStart(widths[index]!)).join(' ')}`;
  return [
    line('', columns),
    ...[...rows].map(([name, row]) =>
      line(
        name,
        columns.map((column) => row.get(column) ?? '-'),
      ),
    ),
  ];
}
