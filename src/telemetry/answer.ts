/** An answer of the agent's HTTP service. */
export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  /** Further header fields. */
  readonly fields?: Readonly<Record<string, string>>;
}

/** @returns one line of text, as an answer */
export function textAnswer(status: number, line: string, fields?: Answer['fields']): Answer {
  return {
    status,
    contentType: 'text/plain; charset=utf-8',
    body: `${line}\n`,
    ...(fields !== undefined && { fields }),
  };
}
