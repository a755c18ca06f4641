import { FieldTable, type KnownField } from '../http1/fields.ts';

/** What a field is to this parser. */
export const ROLE_NONE = 0;
export const ROLE_METHOD = 1;
export const ROLE_SCHEME = 2;
export const ROLE_AUTHORITY = 3;
export const ROLE_PATH = 4;
export const ROLE_STATUS = 5;
/** `:protocol` of extended CONNECT (RFC 8441 section 4). */
export const ROLE_PROTOCOL = 6;
/** Its value is kept for later stages. */
export const ROLE_KEPT = 7;
/** A field of which nothing is known: what the table holds at its place was lost. */
export const ROLE_UNKNOWN = 8;
export type Role =
  | typeof ROLE_NONE
  | typeof ROLE_METHOD
  | typeof ROLE_SCHEME
  | typeof ROLE_AUTHORITY
  | typeof ROLE_PATH
  | typeof ROLE_STATUS
  | typeof ROLE_PROTOCOL
  | typeof ROLE_KEPT
  | typeof ROLE_UNKNOWN;

const PSEUDO_ROLES: ReadonlyMap<string, Role> = new Map<string, Role>([
  [':method', ROLE_METHOD],
  [':scheme', ROLE_SCHEME],
  [':authority', ROLE_AUTHORITY],
  [':path', ROLE_PATH],
  [':status', ROLE_STATUS],
  [':protocol', ROLE_PROTOCOL],
]);

/** A field name that is wanted. */
export interface WantedName {
  /** The name under which later stages find it. */
  readonly key: string;
  readonly role: Role;
  /** Numbers the wanted names from 0. */
  readonly index: number;
  readonly length: number;
}

/** A header field, shared by all header lists that refer to it. */
export interface Field {
  readonly role: Role;
  /** `undefined` for a field that nobody wants, and for one whose name is not known. */
  readonly name: WantedName | undefined;
  /** Empty where nobody wants it. */
  readonly value: string;
  /** Of `:status`, 0 when it is no status code; else 0. */
  readonly status: number;
  /** Octets of the name, 0 when not known. */
  readonly nameLength: number;
  /** RFC 7541 section 4.1; a lower bound when not all of it is known. */
  readonly size: number;
}

/** RFC 7541 section 4.1: what an entry counts besides its octets. */
export const ENTRY_OVERHEAD = 32;

export const UNKNOWN_FIELD: Field = {
  role: ROLE_UNKNOWN,
  name: undefined,
  value: '',
  status: 0,
  nameLength: 0,
  size: ENTRY_OVERHEAD,
};

/** A field that nobody wants: of it, only the size matters to the table. */
export function unwantedField(nameLength: number, valueLength: number): Field {
  const size = nameLength + valueLength + ENTRY_OVERHEAD;
  return { role: ROLE_NONE, name: undefined, value: '', status: 0, nameLength, size };
}

/** @param valueLength octets of the value */
export function wantedField(name: WantedName, value: string, valueLength: number): Field {
  const size = name.length + valueLength + ENTRY_OVERHEAD;
  const status = name.role === ROLE_STATUS ? parseStatus(value) : 0;
  return { role: name.role, name, value, status, nameLength: name.length, size };
}

function parseStatus(value: string): number {
  if (!/^[1-9]\d\d$/.test(value)) return 0;
  return Number(value);
}

/** RFC 7541 appendix A, from index 1. */
const STATIC_TABLE: readonly (readonly [name: string, value: string])[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((status) => [':status', status] as const),
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ...[
    'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control',
    'content-disposition content-encoding content-language content-length content-location content-range content-type',
    'cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since',
    'last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after',
    'server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate',
  ].flatMap((line) => line.split(' ').map((name) => [name, ''] as const)),
];
/** Indexes up to this one are those of the static table (RFC 7541 section 2.3.3). */
export const STATIC_ENTRIES = 61;

/** The names that are wanted, and the static table as far as it is. One for all connections. */
export class FieldNames {
  /** By index, from 1. */
  readonly fixed: readonly (Field | undefined)[];
  /** How many names are wanted. */
  readonly count: number;
  private readonly table: FieldTable;
  private readonly wanted: ReadonlyMap<KnownField, WantedName>;

  /** @param keepHeaders lower-case names of the fields whose values later stages want */
  constructor(keepHeaders: ReadonlySet<string>) {
    const names = [...PSEUDO_ROLES.keys(), ...keepHeaders];
    this.table = new FieldTable(new Set(names));
    const wanted = new Map<KnownField, WantedName>();
    names.forEach((name, index) => {
      const role = PSEUDO_ROLES.get(name) ?? ROLE_KEPT;
      // RFC 9113 section 8.3.1: the authority stands for Host.
      const key = role === ROLE_AUTHORITY ? 'host' : name;
      const bytes = Buffer.from(name, 'latin1');
      const known = this.table.find(bytes, 0, bytes.length);
      if (known !== undefined) wanted.set(known, { key, role, index, length: name.length });
    });
    this.wanted = wanted;
    this.count = names.length;
    this.fixed = [undefined, ...STATIC_TABLE.map(([name, value]) => this.fixedField(name, value))];
  }

  private fixedField(name: string, value: string): Field {
    const bytes = Buffer.from(name, 'latin1');
    const wanted = this.find(bytes, 0, bytes.length);
    return wanted === undefined ? unwantedField(name.length, value.length) : wantedField(wanted, value, value.length);
  }

  /** @returns the name in bytes[start..end) if it is wanted */
  find(bytes: Buffer, start: number, end: number): WantedName | undefined {
    const known = this.table.find(bytes, start, end);
    return known === undefined ? undefined : this.wanted.get(known);
  }
}
