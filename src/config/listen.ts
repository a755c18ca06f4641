/** Where a server listens: `HOST:PORT`, `[IPV6]:PORT`, or `:PORT` for every address. */
export interface ListenAddress {
  /** Empty: every address. */
  readonly host: string;
  readonly port: number;
}

const FORM = /^(?:\[(?<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?<host>[\w.-]*)):(?<port>\d{1,5})$/;

/** @returns `undefined` when the text is no such address */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const groups = FORM.exec(text)?.groups;
  const port = Number(groups?.port);
  if (groups === undefined || port < 1 || port > 65_535) return undefined;
  return { host: groups.v6 ?? groups.host ?? '', port };
}

/** The alphabet of bearer tokens (RFC 6750, 2.1); shorter ones can be guessed. */
export const tokenPattern = /^[\w.~+/-]{16,}={0,2}$/;
