/**
 * The header of the PROXY protocol (proxy-protocol.txt of HAProxy, sections 2.1 and 2.2), which a proxy sends ahead of all else.
 */
import type { RelayedClient } from '../../flow/connection.ts';
import { formatAddress, parseAddress } from '../../packet/address.ts';

/** Why a header cannot be read on: keys of `connections.unrecognised`. */
export type HeaderFault =
  /** The binary signature with a version other than 2: nothing is known of what follows. */
  | 'proxy_version'
  /** A line of version 1 that breaks off, or whose addresses are none. */
  | 'proxy_malformed';

export type HeaderOutcome =
  /** So far it may be a header, or is one that goes on. */
  | 'more'
  /** The header is whole. */
  | 'done'
  /** What stands here is no header. */
  | 'none'
  | HeaderFault;

const CR = 0x0d;
const LF = 0x0a;
const SP = 0x20;
const P = 0x50;

const PROXY = Buffer.from('PROXY ', 'latin1');
const FAMILIES: readonly Buffer[] = ['TCP4 ', 'TCP6 ', 'UNKNOWN'].map((text) => Buffer.from(text, 'latin1'));
/** Section 2.1: the longest line, its CRLF included. */
const LINE_BYTES = 107;
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
/** Signature, version and command, family and protocol, length. */
const FIXED_BYTES = 16;
const COMMAND_PROXY = 1;
/** By family (AF_INET, AF_INET6, AF_UNIX): bytes of one address, and of both with their ports. */
const ADDRESS_BYTES = [0, 4, 16, 108];
const ADDRESSES_BYTES = [0, 12, 36, 216];
const AF_UNIX = 3;

/** @returns whether a header of either version may begin with this byte */
export function mayBeginHeader(byte: number): boolean {
  return byte === P || byte === CR;
}

/** @returns whether bytes[start..end) begin with so much of a header that they are nothing else */
export function beginsWithHeader(bytes: Buffer, start: number, end: number): boolean {
  const length = SIGNATURE.length;
  if (end - start > length && bytes.compare(SIGNATURE, 0, length, start, start + length) === 0) return true;
  const family = start + PROXY.length;
  if (bytes.compare(PROXY, 0, PROXY.length, start, Math.min(family, end)) !== 0) return false;
  return FAMILIES.some(
    (text) => bytes.compare(text, 0, text.length, family, Math.min(family + text.length, end)) === 0,
  );
}

/**
 * Reads one header, however it is split. At most 232 bytes are held: a line, or the fixed part and the addresses. What follows the
 * addresses of version 2 (TLVs) is passed over by its length, and not checked.
 */
export class HeaderReader {
  /** The client that the header names; `undefined` where it names none (UNKNOWN, LOCAL, AF_UNSPEC) or is not whole. */
  client: RelayedClient | undefined = undefined;
  outcome: HeaderOutcome = 'more';
  /** The bytes that may be a header, for who reads on when they are none. */
  readonly held = Buffer.allocUnsafe(FIXED_BYTES + ADDRESSES_BYTES[AF_UNIX]!);
  heldBytes = 0;
  /** Bytes behind the addresses that still belong to the header. */
  private rest = 0;

  /** Makes ready for the next header. */
  begin(): void {
    this.client = undefined;
    this.outcome = 'more';
    this.heldBytes = 0;
    this.rest = 0;
  }

  /** Reads bytes[start..end) and sets `outcome`. @returns the position behind what was read */
  consume(bytes: Buffer, start: number, end: number): number {
    let position = start;
    while (position < end && this.outcome === 'more') {
      if (this.rest > 0) {
        const n = Math.min(this.rest, end - position);
        position += n;
        this.pass(n);
      } else {
        this.held[this.heldBytes++] = bytes[position++]!;
        this.outcome = this.held[0] === P ? this.line() : this.binary();
      }
    }
    return position;
  }

  /** `length` bytes were lost. @returns how many of them lie behind the header, -1 when it is not known */
  gap(length: number): number {
    if (this.rest === 0) return -1;
    const n = Math.min(this.rest, length);
    this.pass(n);
    return length - n;
  }

  private pass(n: number): void {
    this.rest -= n;
    if (this.rest === 0) this.outcome = 'done';
  }

  /** Section 2.1, with one byte more than before. */
  private line(): HeaderOutcome {
    const { held, heldBytes } = this;
    const last = held[heldBytes - 1]!;
    if (heldBytes <= PROXY.length) return last === PROXY[heldBytes - 1] ? 'more' : 'none';
    const said = heldBytes - PROXY.length;
    const family = FAMILIES.find(
      (text) => held.compare(text, 0, Math.min(said, text.length), 6, 6 + Math.min(said, text.length)) === 0,
    );
    if (family === undefined) return 'none';
    if (said === family.length + 1 && family.length === 7 && last !== SP && last !== CR) return 'none';
    // The receiver must not take a single CR or LF for the end of the line.
    if (last !== LF) return heldBytes < LINE_BYTES ? 'more' : 'proxy_malformed';
    if (held[heldBytes - 2] !== CR) return 'proxy_malformed';
    // What an unknown connection says of its addresses is passed over.
    if (family.length === 7) return 'done';
    const [source, destination, sourcePort, destinationPort, ...more] = held
      .toString('latin1', PROXY.length + family.length, heldBytes - 2)
      .split(' ');
    const address = parseAddress(source ?? '');
    const length = family === FAMILIES[0] ? 4 : 16;
    const isWhole =
      address?.length === length && parseAddress(destination ?? '')?.length === length && more.length === 0;
    const port = portOf(sourcePort);
    if (!isWhole || port < 0 || portOf(destinationPort) < 0) return 'proxy_malformed';
    // In the form that all stages give addresses, which may have been written in several.
    this.client = { address: formatAddress(address, 0, length), port };
    return 'done';
  }

  /** Section 2.2, with one byte more than before. */
  private binary(): HeaderOutcome {
    const { held, heldBytes } = this;
    if (heldBytes <= SIGNATURE.length) return held[heldBytes - 1] === SIGNATURE[heldBytes - 1] ? 'more' : 'none';
    // The receiver must only accept this version.
    if (held[12]! >> 4 !== 2) return 'proxy_version';
    if (heldBytes < FIXED_BYTES) return 'more';
    const length = held.readUInt16BE(14);
    // LOCAL: its family and addresses are ignored. So are those of a family that is unspecified or unknown, and a block that is too short.
    const family = (held[12]! & 15) === COMMAND_PROXY ? held[13]! >> 4 : 0;
    const addresses = ADDRESSES_BYTES[family] ?? 0;
    const wanted = addresses <= length ? addresses : 0;
    if (heldBytes < FIXED_BYTES + wanted) return 'more';
    if (wanted > 0) this.client = this.binaryClient(family);
    this.rest = length - wanted;
    return this.rest === 0 ? 'done' : 'more';
  }

  private binaryClient(family: number): RelayedClient | undefined {
    const { held } = this;
    const length = ADDRESS_BYTES[family]!;
    if (family !== AF_UNIX)
      return { address: formatAddress(held, FIXED_BYTES, length), port: held.readUInt16BE(FIXED_BYTES + 2 * length) };
    const nul = held.indexOf(0, FIXED_BYTES);
    const path = held.toString(
      'latin1',
      FIXED_BYTES,
      nul < 0 ? FIXED_BYTES + length : Math.min(nul, FIXED_BYTES + length),
    );
    // A socket without a name, or with an abstract one, is nothing that a name can be given of.
    return /^[\x20-\x7e]+$/.test(path) ? { address: path, port: 0 } : undefined;
  }
}

/** @returns -1 when the text is no port */
function portOf(text: string | undefined): number {
  if (text === undefined || !/^\d{1,5}$/.test(text)) return -1;
  const port = Number(text);
  return port <= 0xffff ? port : -1;
}
