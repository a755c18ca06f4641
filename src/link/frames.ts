import { NOT_IP, UNKNOWN_LINK_TYPE } from './ethertype.ts';
import { type FragmentLimits, Fragments, type WholePacket } from './fragments.ts';
import { ipStart } from './link.ts';
import { ipInPayload, TCP } from './tunnel.ts';

/** Who takes what a frame holds. */
export interface FrameSink {
  /**
   * The innermost IP packet, bytes[start..end), borrowed; it had `length` bytes on the wire. It may hold anything but a fragment: what a tunnel
   * carries that is no IP packet stays in it.
   */
  packet(timeUs: number, bytes: Buffer, start: number, end: number, length: number): void;
  /** Frames, or fragments, without an IP packet that can be used: `link_type`, `not_ip`, `truncated_headers`, `ip_fragment`. */
  ignored(reason: string, n: number): void;
}

/** Tunnels within tunnels that are looked into. */
const MAX_TUNNELS = 8;
const IPV4_HEADER_LENGTH = 20;
const IPV6_HEADER_LENGTH = 40;
const IPV6_FRAGMENT = 44;

/**
 * Finds the IP packet that matters in frames as an interface shows them: below the link layer, inside tunnels, put together from fragments.
 * The frames of one capture, in their order.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #fragments: Fragments;
  /** How deep the fragment lay that completes a packet. */
  #tunnels = 0;

  constructor(limits: FragmentLimits, sink: FrameSink) {
    this.#sink = sink;
    this.#fragments = new Fragments(
      limits,
      (packet) => this.#whole(packet),
      (n) => sink.ignored('ip_fragment', n),
    );
  }

  /**
   * @param linkType LINKTYPE_ number of the frame bytes[start..end)
   * @param length of the frame on the wire
   */
  frame(linkType: number, timeUs: number, bytes: Buffer, start: number, end: number, length: number): void {
    const ip = ipStart(linkType, bytes, start, end);
    if (ip < 0) this.#sink.ignored(reasonOf(ip), 1);
    else this.#packet(timeUs, bytes, ip, end, start + length, 0);
  }

  /** The capture has ended. */
  finish(): void {
    this.#fragments.finish();
  }

  /** @param wireEnd where the packet ended on the wire, in the count of `bytes` */
  #packet(timeUs: number, bytes: Buffer, start: number, end: number, wireEnd: number, tunnels: number): void {
    const isIpv4 = bytes[start]! >> 4 === 4;
    const taken = isIpv4
      ? this.#ipv4(timeUs, bytes, start, end, wireEnd, tunnels)
      : this.#ipv6(timeUs, bytes, start, end, wireEnd, tunnels);
    if (!taken) this.#sink.packet(timeUs, bytes, start, end, wireEnd - start);
  }

  /** RFC 791 3.1. @returns false for a packet that is to be taken as it is */
  #ipv4(timeUs: number, bytes: Buffer, start: number, end: number, wireEnd: number, tunnels: number): boolean {
    if (end - start < IPV4_HEADER_LENGTH) return false;
    const protocol = bytes[start + 9]!;
    const fragment = bytes.readUInt16BE(start + 6) & 0x3fff;
    if (protocol === TCP && fragment === 0) return false;
    const payload = start + (bytes[start]! & 0x0f) * 4;
    const packetEnd = Math.min(wireEnd, start + (bytes.readUInt16BE(start + 2) || wireEnd - start));
    if (payload - start < IPV4_HEADER_LENGTH || payload > packetEnd || payload > end) return false;
    if (fragment === 0) return this.#payload(timeUs, protocol, bytes, payload, end, packetEnd, tunnels);
    const isLast = (fragment & 0x2000) === 0;
    this.#tunnels = tunnels;
    this.#fragments.add(timeUs, {
      key: bytes.toString('latin1', start + 12, start + 20) + bytes.toString('latin1', start + 4, start + 6) + protocol,
      headers: bytes.subarray(start, payload),
      offset: (fragment & 0x1fff) * 8,
      length: fragmentLength(packetEnd - payload, isLast),
      isLast,
      payload: bytes.subarray(payload, Math.min(end, payload + fragmentLength(packetEnd - payload, isLast))),
    });
    return true;
  }

  /** RFC 8200 3, 4. @returns as #ipv4 */
  #ipv6(timeUs: number, bytes: Buffer, start: number, end: number, wireEnd: number, tunnels: number): boolean {
    if (end - start < IPV6_HEADER_LENGTH) return false;
    let next = bytes[start + 6]!;
    if (next === TCP) return false;
    const packetEnd = Math.min(
      wireEnd,
      start + IPV6_HEADER_LENGTH + (bytes.readUInt16BE(start + 4) || wireEnd - start),
    );
    let at = start + IPV6_HEADER_LENGTH;
    let nextAt = start + 6;
    // Hop-by-hop options, routing, destination options: the headers that may stand before a fragment's.
    for (let i = 0; i < MAX_TUNNELS && (next === 0 || next === 43 || next === 60); i++) {
      if (at + 8 > end) return false;
      next = bytes[at]!;
      nextAt = at;
      at += (bytes[at + 1]! + 1) * 8;
    }
    if (at > end || at > packetEnd) return false;
    if (next !== IPV6_FRAGMENT) return this.#payload(timeUs, next, bytes, at, end, packetEnd, tunnels);
    if (at + 8 > end || at + 8 > packetEnd) return false;
    const field = bytes.readUInt16BE(at + 2);
    const isLast = (field & 1) === 0;
    // RFC 6946: a packet that is its own only fragment.
    if (isLast && (field & 0xfff8) === 0) return false;
    const headers = Buffer.from(bytes.subarray(start, at));
    headers[nextAt - start] = bytes[at]!;
    const payload = at + 8;
    const length = fragmentLength(packetEnd - payload, isLast);
    this.#tunnels = tunnels;
    this.#fragments.add(timeUs, {
      key: bytes.toString('latin1', start + 8, start + 40) + bytes.toString('latin1', at + 4, at + 8),
      headers,
      offset: field & 0xfff8,
      length,
      isLast,
      payload: bytes.subarray(payload, Math.min(end, payload + length)),
    });
    return true;
  }

  /** What an IP packet carries. @returns false when that is no other IP packet */
  #payload(
    timeUs: number,
    protocol: number,
    bytes: Buffer,
    at: number,
    end: number,
    packetEnd: number,
    tunnels: number,
  ): boolean {
    if (protocol === TCP || tunnels === MAX_TUNNELS) return false;
    const payloadEnd = Math.min(end, packetEnd);
    const inner = ipInPayload(protocol, bytes, at, payloadEnd);
    if (inner < 0) return false;
    this.#packet(timeUs, bytes, inner, payloadEnd, packetEnd, tunnels + 1);
    return true;
  }

  #whole({ headers, payload, length, timeUs }: WholePacket): void {
    const bytes = Buffer.concat([headers, payload]);
    if (bytes[0]! >> 4 === 4) {
      bytes.writeUInt16BE(Math.min(0xffff, headers.length + length), 2);
      bytes.writeUInt16BE(0, 6);
    } else {
      bytes.writeUInt16BE(Math.min(0xffff, headers.length - IPV6_HEADER_LENGTH + length), 4);
    }
    this.#packet(timeUs, bytes, 0, bytes.length, headers.length + length, this.#tunnels);
  }
}

/** The fragments but the last hold a multiple of eight bytes. */
function fragmentLength(bytes: number, isLast: boolean): number {
  return isLast ? bytes : bytes & ~7;
}

function reasonOf(code: number): string {
  if (code === UNKNOWN_LINK_TYPE) return 'link_type';
  return code === NOT_IP ? 'not_ip' : 'truncated_headers';
}
