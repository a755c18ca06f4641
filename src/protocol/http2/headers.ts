import { NO_HEADERS } from '../http1/head.ts';
import {
  type Field,
  ROLE_AUTHORITY,
  ROLE_KEPT,
  ROLE_METHOD,
  ROLE_NONE,
  ROLE_PATH,
  ROLE_PROTOCOL,
  ROLE_SCHEME,
  ROLE_STATUS,
} from './names.ts';

/** A list whose fields have more bytes is not kept for the next one. */
const KEPT_BYTES = 4096;
/** What a field in a Map costs beside its bytes, and all of them together. */
const FIELD_COST = 112;
const FIELDS_COST = 240;

/** What is wanted of one header list (RFC 9113 section 8.3). One object per direction, used again for each list. */
export class HeaderList {
  method = '';
  scheme = '';
  path = '';
  /** Of `:authority`, empty without one. */
  authority = '';
  /** 0 without one. */
  status = 0;
  /** There were fields of which nothing is known. */
  unknown = false;
  /** There were more fields that are kept than the limit allows. */
  overflow = false;
  /** The block was cut here: by a hole, or by a limit. */
  cut: 'gap' | 'limit' | 'protocol_error' | undefined = undefined;

  private readonly maxFields: number;
  private readonly kept: Field[] = [];
  private length = 0;
  /** The list before this one that kept any field, and what was made of it: most lists of a connection keep the same ones. */
  private last: Field[] = [];
  private lastHeaders: ReadonlyMap<string, readonly string[]> = NO_HEADERS;
  /** Bytes of the fields of this list that are wanted, and of those of `last`. */
  private bytes = 0;
  private lastBytes = 0;

  /** @param maxFields fields kept of one list */
  constructor(maxFields: number) {
    this.maxFields = maxFields;
  }

  begin(): void {
    this.method = '';
    this.scheme = '';
    this.path = '';
    this.authority = '';
    this.status = 0;
    this.unknown = false;
    this.overflow = false;
    this.cut = undefined;
    this.length = 0;
    this.bytes = 0;
  }

  /** What stays until the next list (memory/cost.ts). */
  get cost(): number {
    return this.bytes + this.lastBytes;
  }

  /** What the fields that are kept cost one exchange. */
  get headersCost(): number {
    return this.length === 0 ? 0 : FIELDS_COST + this.bytes + this.length * FIELD_COST;
  }

  /** Everything was taken: a large list is not kept for the next one. */
  done(): void {
    if (this.bytes <= KEPT_BYTES && this.lastBytes <= KEPT_BYTES) return;
    this.release();
  }

  take(field: Field): void {
    if (field.role === ROLE_NONE) return;
    this.bytes += field.size;
    switch (field.role) {
      case ROLE_METHOD:
        this.method = field.value;
        return;
      case ROLE_SCHEME:
        this.scheme = field.value;
        return;
      case ROLE_PATH:
        this.path = field.value;
        return;
      case ROLE_STATUS:
        this.status = field.status;
        return;
      case ROLE_AUTHORITY:
        this.authority = field.value;
        this.keep(field);
        return;
      case ROLE_PROTOCOL:
      case ROLE_KEPT:
        this.keep(field);
        return;
      default:
        this.unknown = true;
    }
  }

  private keep(field: Field): void {
    if (this.length < this.maxFields) this.kept[this.length++] = field;
    else this.overflow = true;
  }

  /** The fields that are kept; `host` is the authority where there is one. */
  headers(): ReadonlyMap<string, readonly string[]> {
    const { kept, last, length } = this;
    if (length === 0) return NO_HEADERS;
    let same = last.length === length;
    for (let i = 0; same && i < length; i++) same = kept[i] === last[i];
    if (same) return this.lastHeaders;
    const headers = new Map<string, string[]>();
    for (let i = 0; i < length; i++) {
      const { role, name, value } = kept[i]!;
      if (name === undefined) continue;
      if (role === ROLE_KEPT && name.key === 'host' && this.authority !== '') continue;
      const values = headers.get(name.key);
      if (values === undefined) headers.set(name.key, [value]);
      else values.push(value);
    }
    this.last = kept.slice(0, length);
    this.lastBytes = this.bytes;
    this.lastHeaders = headers;
    return headers;
  }

  release(): void {
    this.begin();
    this.kept.length = 0;
    this.last = [];
    this.lastBytes = 0;
    this.lastHeaders = NO_HEADERS;
  }
}

/** A header list that begins a request, as far as it was read. */
export function namesRequest({ method, path, scheme, authority }: HeaderList): boolean {
  return method !== '' || path !== '' || scheme !== '' || authority !== '';
}

/** A header list that is whole and has no status: trailers. */
export function saysNothing(list: HeaderList): boolean {
  return list.status === 0 && !list.unknown && list.cut === undefined;
}
