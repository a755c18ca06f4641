/**
 * Tunnels: where an IP packet begins that another one carries. What a node's interfaces show of an overlay network: VXLAN (flannel, Calico,
 * Cilium, Docker), Geneve (Cilium, OVN), IP in IP (Calico), GRE and ERSPAN (mirrors).
 */
import { ipAfterEtherType, ipAfterMpls, ipHere, ipInEthernet, NOT_IP, TRUNCATED_LINK_HEADER } from './ethertype.ts';

/** IP protocol numbers. */
export const TCP = 6;
const IPV4_IN_IP = 4; // RFC 2003
const UDP = 17;
const IPV6_IN_IP = 41; // RFC 4213
const GRE = 47;
const MPLS_IN_IP = 137; // RFC 4023

/** RFC 7348 8; and the port of Linux from before it was assigned, which flannel and Cilium still use. */
const VXLAN_PORT = 4789;
const VXLAN_PORT_OF_LINUX = 8472;
/** Generic Protocol Extension for VXLAN, draft-ietf-nvo3-vxlan-gpe. */
const VXLAN_GPE_PORT = 4790;
/** RFC 8926 3.3 */
const GENEVE_PORT = 6081;
/** RFC 7510 3 */
const MPLS_IN_UDP_PORT = 6635;

const ERSPAN_TYPE_II = 0x88be;
const ERSPAN_TYPE_III = 0x22eb;

/**
 * @param protocol of the IP packet whose payload is bytes[at..end)
 * @returns where the inner IP packet begins, or a negative reason of ethertype.ts when there is none
 */
export function ipInPayload(protocol: number, bytes: Buffer, at: number, end: number): number {
  switch (protocol) {
    case IPV4_IN_IP:
    case IPV6_IN_IP:
      return ipHere(bytes, at, end);
    case UDP:
      return at + 16 > end ? TRUNCATED_LINK_HEADER : ipInUdp(bytes.readUInt16BE(at + 2), bytes, at + 8, end);
    case GRE:
      return ipInGre(bytes, at, end);
    case MPLS_IN_IP:
      return ipAfterMpls(bytes, at, end);
    default:
      return NOT_IP;
  }
}

/** @param at of the UDP payload, of which eight bytes are there */
function ipInUdp(port: number, bytes: Buffer, at: number, end: number): number {
  const flags = bytes[at]!;
  switch (port) {
    case VXLAN_PORT:
    case VXLAN_PORT_OF_LINUX:
      // RFC 7348 5: the flag I says that the network identifier is there; it always is.
      return (flags & 0x08) !== 0 ? ipInEthernet(bytes, at + 8, end) : NOT_IP;
    case VXLAN_GPE_PORT:
      if ((flags & 0x08) === 0) return NOT_IP;
      // The flag P says that the last byte of the first word names what follows.
      return (flags & 0x04) === 0 ? ipInEthernet(bytes, at + 8, end) : ipInGpe(bytes[at + 3]!, bytes, at + 8, end);
    case GENEVE_PORT:
      // RFC 8926 3.4: version 0 and the length of the options in words of four bytes; protocol type.
      if (flags >> 6 !== 0) return NOT_IP;
      return ipAfterEtherType(bytes.readUInt16BE(at + 2), bytes, at + 8 + (flags & 0x3f) * 4, end);
    case MPLS_IN_UDP_PORT:
      return ipAfterMpls(bytes, at, end);
    default:
      return NOT_IP;
  }
}

function ipInGpe(nextProtocol: number, bytes: Buffer, at: number, end: number): number {
  if (nextProtocol === 1 || nextProtocol === 2) return ipHere(bytes, at, end);
  return nextProtocol === 3 ? ipInEthernet(bytes, at, end) : NOT_IP;
}

/** RFC 2784 2.1, RFC 2890 2: checksum, key and sequence number are there when their flags say so. */
function ipInGre(bytes: Buffer, at: number, end: number): number {
  if (at + 4 > end) return TRUNCATED_LINK_HEADER;
  const flags = bytes.readUInt16BE(at);
  // Version 1 is PPTP's; routing (RFC 1701) was never used.
  if ((flags & 0x0007) !== 0 || (flags & 0x4000) !== 0) return NOT_IP;
  const hasSequence = (flags & 0x1000) !== 0;
  const type = bytes.readUInt16BE(at + 2);
  const payload = at + 4 + ((flags & 0x8000) !== 0 ? 4 : 0) + ((flags & 0x2000) !== 0 ? 4 : 0) + (hasSequence ? 4 : 0);
  // draft-foschiano-erspan: type I has neither a sequence number nor a header of its own.
  if (type === ERSPAN_TYPE_II && !hasSequence) return ipInEthernet(bytes, payload, end);
  if (type === ERSPAN_TYPE_II || type === ERSPAN_TYPE_III) {
    if (payload + 12 > end) return TRUNCATED_LINK_HEADER;
    const version = bytes[payload]! >> 4;
    if (version !== (type === ERSPAN_TYPE_II ? 1 : 2)) return NOT_IP;
    if (version === 1) return ipInEthernet(bytes, payload + 8, end);
    // The last bit of the header says that eight bytes more follow.
    return ipInEthernet(bytes, payload + 12 + (bytes[payload + 11]! & 1) * 8, end);
  }
  return ipAfterEtherType(type, bytes, payload, end);
}
