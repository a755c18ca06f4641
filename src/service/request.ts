/** The request line and fields of HTTP/1 (RFC 9112), as far as the agent's service needs them. */

export interface Request {
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  readonly parameters: URLSearchParams;
  /** HTTP/1.0: no chunks. */
  readonly isOld: boolean;
  /** Field values by their names in lower case; several of one name are joined by commas (RFC 9110, 5.3). */
  readonly fields: ReadonlyMap<string, string>;
}

/**
 * @param head request line and fields, without the empty line; latin1
 * @returns undefined when it is no request of HTTP/1
 */
export function parseHead(head: string): Request | undefined {
  const [line = '', ...rest] = head.split('\r\n');
  const [, method, target, minor] = /^([!#$%&'*+.^_`|~\w-]+) (\S+) HTTP\/1\.(\d)$/.exec(line) ?? [];
  if (method === undefined || target === undefined) return undefined;
  const fields = new Map<string, string>();
  for (const field of rest) {
    const [, name, value] = /^([^:\s]+):[ \t]*(.*?)[ \t]*$/.exec(field) ?? [];
    if (name === undefined) continue;
    const key = name.toLowerCase();
    const before = fields.get(key);
    fields.set(key, before === undefined ? value! : `${before}, ${value}`);
  }
  const [path = '', query = ''] = target.replace(/^https?:\/\/[^/?]*/i, '').split(/\?(.*)/s);
  return { method, path, parameters: new URLSearchParams(query), isOld: minor === '0', fields };
}
