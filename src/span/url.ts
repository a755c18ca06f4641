/** Request targets, authorities and redaction: what of a request may be shown, and in which form. */
import { PathPatterns } from './routes.ts';

/** A request target taken apart (RFC 9112 section 3.2). The parser reuses one object. */
export class Target {
  /** Scheme and authority of the absolute form, authority of the authority form; else empty. */
  scheme = '';
  authority = '';
  hasUserInfo = false;
  /** Percent-encoded where the wire held bytes that no URI has. `*` for the asterisk form. */
  path = '';
  /** Without its `?`, redacted. */
  query = '';

  parse(method: string, target: string, redactor: Redactor): void {
    this.scheme = '';
    this.authority = '';
    this.hasUserInfo = false;
    const clean = UNSAFE.test(target) ? target.replace(UNSAFE_ALL, percentEncode) : target;
    if (clean.charCodeAt(0) === SLASH) {
      this.pathAndQuery(clean, redactor);
      return;
    }
    this.path = '';
    this.query = '';
    // RFC 9112 section 3.2.3: the authority form is CONNECT's alone.
    if (method === 'CONNECT') {
      this.setAuthority(clean);
      return;
    }
    const separator = clean.indexOf('://');
    if (separator > 0 && SCHEME.test(clean.slice(0, separator))) {
      this.scheme = clean.slice(0, separator).toLowerCase();
      let end = separator + 3;
      while (end < clean.length && !ends(clean.charCodeAt(end))) end++;
      this.setAuthority(clean.slice(separator + 3, end));
      const rest = clean.slice(end);
      // RFC 9110 section 4.2.3: an empty path is the same as `/`.
      this.pathAndQuery(rest.charCodeAt(0) === SLASH ? rest : `/${rest}`, redactor);
      return;
    }
    // The asterisk form, or nothing that the grammar knows.
    this.pathAndQuery(clean, redactor);
  }

  /** For people: the target in the form that the request has, redacted. */
  get readable(): string {
    const { scheme, authority, path, query } = this;
    const rest = query === '' ? path : `${path}?${query}`;
    if (authority === '') return rest;
    return `${scheme === '' ? '' : `${scheme}://`}${authority}${rest}`;
  }

  private setAuthority(text: string): void {
    const at = text.lastIndexOf('@');
    this.hasUserInfo = at >= 0;
    this.authority = at >= 0 ? text.slice(at + 1) : text;
  }

  private pathAndQuery(text: string, redactor: Redactor): void {
    const mark = text.indexOf('?');
    this.path = redactor.path(mark < 0 ? text : text.slice(0, mark));
    this.query = mark < 0 ? '' : redactor.query(text.slice(mark + 1));
  }
}

const SLASH = 0x2f;
const SCHEME = /^[a-z][a-z0-9+.-]*$/i;
const UNSAFE = /[^\x21-\x7e]/;
const UNSAFE_ALL = /[^\x21-\x7e]/g;

function ends(code: number): boolean {
  return code === SLASH || code === 0x3f || code === 0x23;
}

function percentEncode(character: string): string {
  return `%${(character.charCodeAt(0) & 0xff).toString(16).toUpperCase().padStart(2, '0')}`;
}

/** Which of a target's values are credentials. */
export class Redactor {
  private readonly paths: PathPatterns;
  private readonly names: ReadonlySet<string>;
  private readonly hint: RegExp | undefined;

  /**
   * @param names of query parameters, compared without regard to case; `*`: all
   * @param paths patterns that are shown instead of the paths that match them
   */
  constructor(names: readonly string[], paths: readonly string[] = []) {
    this.paths = new PathPatterns(paths);
    this.names = new Set(names.map((name) => name.toLowerCase()));
    const words = [...this.names].map((name) => name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    // Most queries hold none of the names: one search tells, unless a name might hide behind percent-encoding.
    this.hint = words.length === 0 ? undefined : new RegExp(this.names.has('*') ? '' : `${words.join('|')}|%`, 'i');
  }

  path(path: string): string {
    return this.paths.match(path) || path;
  }

  query(query: string): string {
    if (this.hint === undefined || !this.hint.test(query)) return query;
    // `;` separates as well in some servers.
    return query.replaceAll(/[^&;]+/g, (pair) => {
      const equals = pair.indexOf('=');
      const all = this.names.has('*');
      if (equals < 0) return all ? 'REDACTED' : pair;
      const isSecret = all || this.names.has(decoded(pair.slice(0, equals)).toLowerCase());
      return isSecret ? `${pair.slice(0, equals)}=REDACTED` : pair;
    });
  }
}

function decoded(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export interface Authority {
  /** Host without brackets. */
  readonly host: string;
  /** -1 when not given. */
  readonly port: number;
}

/**
 * Parses `host[:port]` (RFC 3986 section 3.2), as in Host.
 *
 * @returns undefined for what is not an authority, user information included
 */
export function parseAuthority(text: string): Authority | undefined {
  // Many connections ask the same few servers, and the pattern costs microseconds.
  if (text === lastText) return lastAuthority;
  lastAuthority = readAuthority(text);
  lastText = text;
  return lastAuthority;
}

let lastText = '';
let lastAuthority: Authority | undefined;

function readAuthority(text: string): Authority | undefined {
  const match = AUTHORITY.exec(text);
  if (match === null) return undefined;
  const port = match[3] === undefined || match[3] === '' ? -1 : Number(match[3]);
  if (port > 65535) return undefined;
  return { host: match[1] ?? match[2]!, port };
}

// reg-name and IPv4address share their alphabet; an IP-literal stands in brackets.
const AUTHORITY = /^(?:\[([\da-f:.]+(?:%25[\w.~-]+)?)\]|([\w.~!$&'()*+,;=%-]+))(?::(\d{0,5}))?$/i;

/** Whether a host is an IP address, without brackets: of version 4, or with the colons of version 6. */
export function isAddress(host: string): boolean {
  return host.includes(':') || /^\d+(?:\.\d+){3}$/.test(host);
}

export function defaultPort(scheme: string): number {
  return scheme === 'https' || scheme === 'wss' ? 443 : 80;
}

/** `host:port` for a URL; the scheme's own port is left out. */
export function formatAuthority(host: string, port: number, scheme: string): string {
  const name = host.includes(':') ? `[${host}]` : host;
  return port === defaultPort(scheme) || port < 0 ? name : `${name}:${port}`;
}

/**
 * What the proxies before a server say of the client's request: `Forwarded` (RFC 7239) or its older kin.
 */
export interface Forwarded {
  readonly address: string;
  readonly host: string;
  readonly proto: string;
}

const NOT_FORWARDED: Forwarded = { address: '', host: '', proto: '' };

export function parseForwarded(headers: ReadonlyMap<string, readonly string[]>): Forwarded {
  const standard = headers.get('forwarded')?.[0];
  if (standard !== undefined) return parseForwardedElement(standard);
  const address = headers.get('x-forwarded-for')?.[0];
  const host = headers.get('x-forwarded-host')?.[0];
  const proto = headers.get('x-forwarded-proto')?.[0];
  if (address === undefined && host === undefined && proto === undefined) return NOT_FORWARDED;
  return { address: nodeName(firstOf(address)), host: firstOf(host), proto: scheme(firstOf(proto)) };
}

/** The first element names the original client; its pairs are separated by semicolons, values may be quoted. */
function parseForwardedElement(text: string): Forwarded {
  let address = '';
  let host = '';
  let proto = '';
  // Sticky: a position is tried once, so that the time is linear in the length, whatever the text. A comma ends the element.
  const pairs = /[\s;]*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;,"]*))\s*/y;
  for (let match = pairs.exec(text); match !== null; match = pairs.exec(text)) {
    const value = (match[2]?.replaceAll(/\\(.)/g, '$1') ?? match[3] ?? '').trim();
    switch (match[1]!.toLowerCase()) {
      case 'for':
        address = nodeName(value);
        break;
      case 'host':
        host = value;
        break;
      case 'proto':
        proto = scheme(value);
        break;
      default:
    }
  }
  return { address, host, proto };
}

function firstOf(list: string | undefined): string {
  if (list === undefined) return '';
  const comma = list.indexOf(',');
  return (comma < 0 ? list : list.slice(0, comma)).trim();
}

/** The address of `address[:port]`; the words `unknown` and `_obfuscated` (RFC 7239 section 6) name nobody. */
function nodeName(text: string): string {
  if (text === '' || text.startsWith('_') || text.toLowerCase() === 'unknown') return '';
  // A bare IPv6 address, as X-Forwarded-For has it.
  if (/^[\da-f]*:[\da-f]*:[\da-f:.]*$/i.test(text)) return text;
  return parseAuthority(text)?.host ?? '';
}

function scheme(text: string): string {
  const lower = text.toLowerCase();
  return lower === 'http' || lower === 'https' ? lower : '';
}
