import type { SqlDialect, SqlStatement } from './statement.ts';

/**
 * How the bytes of a text stand for characters. `unsafe`: a client encoding whose multi-byte characters may contain ASCII bytes
 * (SJIS, BIG5, GBK, GB18030, UHC, JOHAB), so that nobody can say where a literal ends: no text leaves.
 */
export type TextEncoding = 'utf8' | 'latin1' | 'unsafe';

/**
 * What a backslash means in a plain '...' literal of this session. PostgreSQL says it in ParameterStatus
 * (standard_conforming_strings on: `literal`, off: `escape`), MySQL in SERVER_STATUS_NO_BACKSLASH_ESCAPES of every OK and EOF packet.
 * While it is `unknown`, a text whose literals would end elsewhere under the other rule has no text.
 */
export type BackslashRule = 'escape' | 'literal' | 'unknown';

export interface SqlAnalyserOptions {
  readonly dialect: SqlDialect;
  /** Bytes (UTF-8) that a statement's text is cut to. */
  readonly maxTextBytes: number;
  /** Texts leave as they were written. */
  readonly rawText: boolean;
  /** A statement is ignored when one of them matches its text with literals replaced, or its summary when it has no text. */
  readonly ignore: readonly RegExp[];
  /** Distinct texts that are remembered, and the longest text that is. */
  readonly cacheEntries?: number;
  readonly cacheTextBytes?: number;
}

/** Finds out what may be said of SQL texts, once per distinct text. */
export class SqlAnalyser {
  constructor(options: SqlAnalyserOptions) {
    void options;
  }

  /**
   * Splits a text into its statements and analyses each. Never throws.
   * @param bytes the text is bytes[start..end) without a terminator; borrowed for the call
   * @returns the statements in source order, empty ones left out; [] when there are none (only comments and semicolons)
   */
  analyse(
    bytes: Buffer,
    start: number,
    end: number,
    encoding: TextEncoding,
    backslash: BackslashRule = 'unknown',
  ): readonly SqlStatement[] {
    const statement = this.analyseOne(bytes, start, end, encoding, backslash);
    return statement === undefined ? [] : [statement];
  }

  /** The same of a text that the protocol says is exactly one statement (Parse, COM_STMT_PREPARE): it is never split. */
  analyseOne(
    bytes: Buffer,
    start: number,
    end: number,
    encoding: TextEncoding,
    _backslash: BackslashRule = 'unknown',
  ): SqlStatement | undefined {
    if (end <= start || encoding === 'unsafe') return undefined;
    const operation = /^\s*([a-z]+)/i.exec(bytes.toString('latin1', start, Math.min(end, start + 64)))?.[1] ?? '';
    return {
      text: '',
      truncated: false,
      summary: operation,
      operation,
      collection: '',
      storedProcedure: '',
      traceparent: '',
      tracestate: '',
      ignored: false,
      effect: undefined,
    };
  }
}
