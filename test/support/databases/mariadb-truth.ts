/** What MariaDB's performance schema and general log say of statements, as lines that spans can be compared with. */
import type { FlatSpan } from '../otlp/spans.ts';
import { rowsOf, statementsOf, textOf } from '../sql/spans.ts';
import type { EndedStatement, LogEntry } from './mariadb.ts';

/** Events of the protocol's commands that run a statement; the others (Ping, Quit, Prepare, Fetch, ...) run none. */
const EXECUTIONS = new Set(['statement/com/Execute', 'statement/com/Bulk_execute']);

/** Whether the server says how many rows such a statement returned or changed as it tells the client. */
const saysRows = (text: string) => !/^(CALL|LOAD|CREATE|SHOW|KILL)\b/i.test(text);

/** Values that the log has put in and that are words. */
const withoutWords = (text: string) => text.replaceAll(/\bNULL\b/g, '?');

/** What a logged text begins with: the server puts the rest of a text with several statements into the entry of each. */
function firstOf(text: string): string {
  const one = /^CREATE PROCEDURE\b/i.test(text);
  return statementsOf('mysql', text, one)[0]?.text ?? '';
}

export class MariaDbTruth {
  readonly #log: readonly LogEntry[];
  readonly #ended: readonly EndedStatement[];

  constructor(log: readonly LogEntry[], ended: readonly EndedStatement[]) {
    this.#log = log;
    this.#ended = ended;
  }

  /**
   * Texts, of the general log. A text with several statements is there once, with those that were not run because one before them failed.
   * What PREPARE and EXECUTE stand for is left out.
   */
  texts(database: string): string[] {
    const lines: string[] = [];
    let inside = false;
    for (const { command, argument } of this.#log.filter((entry) => entry.database === database)) {
      if (command === 'Query') {
        inside = /^\s*execute/i.test(argument);
        const all = statementsOf('mysql', argument, /^CREATE PROCEDURE\b/i.test(argument)).map(({ text }) => text);
        const bad = all.findIndex((text) => text.includes('nope'));
        lines.push(...(bad === -1 ? all : all.slice(0, bad + 1)));
      } else if (command === 'Execute') {
        if (!inside) lines.push(statementsOf('mysql', argument, true)[0]?.text ?? '');
        inside = false;
      }
    }
    return lines.map(withoutWords);
  }

  /** The same of the spans. */
  spanTexts(spans: readonly FlatSpan[]): string[] {
    return spans.map((span) => withoutWords(textOf(span)));
  }

  /** Texts that were prepared: the performance schema does not know them at their executions. */
  #prepared(database: string): Set<string> {
    const prepared = this.#log.filter((entry) => entry.database === database && entry.command === 'Prepare');
    return new Set(prepared.map(({ argument }) => statementsOf('mysql', argument, true)[0]?.text ?? ''));
  }

  /**
   * Error numbers, rows and texts, of the performance schema.
   * @param rowsKnown false where it counts rows otherwise: cursors, bulk executions, procedures
   * @param textsKnown false where it has cut the texts
   */
  outcomes(database: string, rowsKnown: boolean, textsKnown: boolean): string[] {
    const prepared = this.#prepared(database);
    return this.#ended.flatMap((ended) => {
      if (ended.database !== database) return [];
      const rows = ended.rowsSent + ended.rowsAffected;
      if (EXECUTIONS.has(ended.event)) return [outcome(ended.errorNumber, rowsKnown, rows, '', textsKnown)];
      if (!ended.event.startsWith('statement/sql/')) return [];
      const text = firstOf(ended.text);
      return [outcome(ended.errorNumber, rowsKnown, rows, prepared.has(text) ? '' : text, textsKnown)];
    });
  }

  /** The same of the spans. */
  spanOutcomes(database: string, spans: readonly FlatSpan[], rowsKnown: boolean, textsKnown: boolean): string[] {
    const prepared = this.#prepared(database);
    return spans.map((span) => {
      const text = textOf(span);
      const error = Number(span.attributes['db.response.status_code'] ?? 0);
      return outcome(error, rowsKnown, rowsOf(span), prepared.has(text) ? '' : text, textsKnown);
    });
  }
}

function outcome(error: number, rowsKnown: boolean, rows: number, text: string, textsKnown: boolean): string {
  const what = textsKnown ? text || 'something prepared' : 'something';
  return `error ${error}, ${rowsKnown && saysRows(text) ? rows : '?'} rows: ${what}`;
}
