/**
 * What an EtherType announces, down to where an IP packet or another Ethernet frame begins: virtual LANs, PPPoE, MPLS, 802.3 with SNAP.
 * Numbers: the IANA registry "IEEE 802 Numbers".
 */
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
/** IEEE 802.1Q, 802.1ad (QinQ), and what was used before it. */
const VLAN_TAGS: readonly number[] = [0x8100, 0x88a8, 0x9100, 0x9200];
const MPLS_UNICAST = 0x8847;
const MPLS_MULTICAST = 0x8848;
const PPPOE_SESSION = 0x8864;
const TRANSPARENT_ETHERNET_BRIDGING = 0x6558;
/** A smaller number is the length of an 802.3 frame. */
const SMALLEST_ETHERTYPE = 0x0600;
/** Destination service access point, source service access point, unnumbered information: RFC 1042. */
const LLC_SNAP = 0xaaaa03;
/** Tags and labels together that one frame may have. */
const MAX_TAGS = 16;
/** Addresses and EtherType. */
const ETHERNET_HEADER_LENGTH = 14;

/** No IP packet begins there. */
export const NOT_IP = -1;
export const UNKNOWN_LINK_TYPE = -2;
/** The capture ends before the place where it would begin. */
export const TRUNCATED_LINK_HEADER = -3;

/** @returns where the IP packet of an Ethernet frame begins, or a negative reason */
export function ipInEthernet(bytes: Buffer, start: number, end: number): number {
  return ipAfterEtherTypeAt(bytes, start + 12, end);
}

/** @param at offset of an EtherType whose payload follows it. @returns as ipInEthernet */
export function ipAfterEtherTypeAt(bytes: Buffer, at: number, end: number): number {
  return at + 2 > end ? TRUNCATED_LINK_HEADER : ipAfterEtherType(bytes.readUInt16BE(at), bytes, at + 2, end);
}

/** @param at where the payload of this EtherType begins. @returns as ipInEthernet */
export function ipAfterEtherType(type: number, bytes: Buffer, at: number, end: number): number {
  for (let tags = 0; tags <= MAX_TAGS; tags++) {
    if (type === IPV4 || type === IPV6) return ipHere(bytes, at, end);
    if (type === MPLS_UNICAST || type === MPLS_MULTICAST) return ipAfterMpls(bytes, at, end);
    if (type === PPPOE_SESSION) return ipAfterPppoe(bytes, at, end);
    if (type < SMALLEST_ETHERTYPE) {
      // RFC 1042: LLC, then SNAP's organisation (0: EtherTypes) and the EtherType.
      if (at + 8 > end) return TRUNCATED_LINK_HEADER;
      if (bytes.readUIntBE(at, 3) !== LLC_SNAP || bytes.readUIntBE(at + 3, 3) !== 0) return NOT_IP;
      type = bytes.readUInt16BE(at + 6);
      if (type < SMALLEST_ETHERTYPE) return NOT_IP;
      at += 8;
    } else if (VLAN_TAGS.includes(type)) {
      if (at + 4 > end) return TRUNCATED_LINK_HEADER;
      type = bytes.readUInt16BE(at + 2);
      at += 4;
    } else if (type === TRANSPARENT_ETHERNET_BRIDGING) {
      if (at + ETHERNET_HEADER_LENGTH > end) return TRUNCATED_LINK_HEADER;
      type = bytes.readUInt16BE(at + 12);
      at += ETHERNET_HEADER_LENGTH;
    } else {
      return NOT_IP;
    }
  }
  return NOT_IP;
}

/** @returns `at` when an IP header of either version begins there, else a negative reason */
export function ipHere(bytes: Buffer, at: number, end: number): number {
  if (at >= end) return TRUNCATED_LINK_HEADER;
  const version = bytes[at]! >> 4;
  return version === 4 || version === 6 ? at : NOT_IP;
}

/** RFC 3032 2.1: a stack of labels of four bytes; the last one says so. What follows is known to the routers alone. */
export function ipAfterMpls(bytes: Buffer, at: number, end: number): number {
  for (let labels = 0; labels < MAX_TAGS; labels++) {
    if (at + 4 > end) return TRUNCATED_LINK_HEADER;
    const bottom = (bytes[at + 2]! & 1) !== 0;
    at += 4;
    if (!bottom) continue;
    if (at >= end) return TRUNCATED_LINK_HEADER;
    // RFC 4385 3: the control word of a pseudowire begins with a zero nibble, so that it is no IP packet; RFC 4448: Ethernet follows.
    return bytes[at]! >> 4 === 0 ? ipInEthernet(bytes, at + 4, end) : ipHere(bytes, at, end);
  }
  return NOT_IP;
}

/** RFC 2516 4: version and type 1, code 0 for a session's data, session, length; then PPP without its HDLC framing. */
function ipAfterPppoe(bytes: Buffer, at: number, end: number): number {
  if (at + 6 > end) return TRUNCATED_LINK_HEADER;
  return bytes.readUInt16BE(at) === 0x1100 ? ipAfterPpp(bytes, at + 6, end) : NOT_IP;
}

/** RFC 1661 2: the protocol in two bytes, or in one where both ends agreed to that (an odd first byte). */
export function ipAfterPpp(bytes: Buffer, at: number, end: number): number {
  if (at + 2 > end) return TRUNCATED_LINK_HEADER;
  const short = (bytes[at]! & 1) !== 0;
  const protocol = short ? bytes[at]! : bytes.readUInt16BE(at);
  const payload = at + (short ? 1 : 2);
  switch (protocol) {
    case 0x0021:
    case 0x0057:
      return ipHere(bytes, payload, end);
    case 0x0281: // RFC 3032 4.3
      return ipAfterMpls(bytes, payload, end);
    default:
      return NOT_IP;
  }
}
