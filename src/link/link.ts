import {
  ipAfterEtherType,
  ipAfterEtherTypeAt,
  ipAfterPpp,
  ipHere,
  ipInEthernet,
  NOT_IP,
  TRUNCATED_LINK_HEADER,
  UNKNOWN_LINK_TYPE,
} from './ethertype.ts';

/** Link types of pcap and pcapng, by their LINKTYPE_ names (https://www.tcpdump.org/linktypes.html). */
export const LINKTYPE_RAW = 101;
const LINKTYPE_NULL = 0;
const LINKTYPE_ETHERNET = 1;
const LINKTYPE_PPP = 9;
/** DLT_RAW of some systems, written into files by mistake. */
const DLT_RAW = 12;
const DLT_RAW_OPENBSD = 14;
const LINKTYPE_PPP_HDLC = 50;
const LINKTYPE_PPP_ETHER = 51;
const LINKTYPE_LOOP = 108;
const LINKTYPE_LINUX_SLL = 113;
const LINKTYPE_IPV4 = 228;
const LINKTYPE_IPV6 = 229;
const LINKTYPE_NFLOG = 239;
const LINKTYPE_LINUX_SLL2 = 276;

/** The type of NFLOG's attribute that holds the packet. */
const NFULA_PAYLOAD = 9;
/** More attributes than the kernel knows. */
const MAX_NFLOG_ATTRIBUTES = 64;

/**
 * Where the outermost IP packet begins in a frame.
 *
 * @returns its offset in `bytes`, or a negative reason of ethertype.ts
 */
export function ipStart(linkType: number, bytes: Buffer, start: number, end: number): number {
  switch (linkType) {
    case LINKTYPE_ETHERNET:
      return ipInEthernet(bytes, start, end);
    case LINKTYPE_RAW:
    case DLT_RAW:
    case DLT_RAW_OPENBSD:
    case LINKTYPE_IPV4:
    case LINKTYPE_IPV6:
      return ipHere(bytes, start, end);
    case LINKTYPE_NULL:
    case LINKTYPE_LOOP:
      // The four bytes are an address family whose numbers differ by system: the version of the IP header says the same.
      return ipHere(bytes, start + 4, end);
    case LINKTYPE_LINUX_SLL:
      return ipAfterEtherTypeAt(bytes, start + 14, end);
    case LINKTYPE_LINUX_SLL2:
      if (start + 20 > end) return TRUNCATED_LINK_HEADER;
      return ipAfterEtherType(bytes.readUInt16BE(start), bytes, start + 20, end);
    case LINKTYPE_PPP:
    case LINKTYPE_PPP_HDLC: {
      if (start + 2 > end) return TRUNCATED_LINK_HEADER;
      // RFC 1662 3.1: all stations, unnumbered information; both may be left out.
      const framed = bytes.readUInt16BE(start) === 0xff03;
      return ipAfterPpp(bytes, framed ? start + 2 : start, end);
    }
    case LINKTYPE_PPP_ETHER:
      return ipAfterEtherType(0x8864, bytes, start, end);
    case LINKTYPE_NFLOG:
      return ipInNflog(bytes, start, end);
    default:
      return UNKNOWN_LINK_TYPE;
  }
}

/** Family, version and resource, then attributes: length (its own four bytes included) and type in the byte order of the host. */
function ipInNflog(bytes: Buffer, start: number, end: number): number {
  let at = start + 4;
  for (let i = 0; i < MAX_NFLOG_ATTRIBUTES; i++) {
    if (at + 4 > end) return TRUNCATED_LINK_HEADER;
    const length = bytes.readUInt16LE(at);
    if (length < 4) return NOT_IP;
    if ((bytes.readUInt16LE(at + 2) & 0x7fff) === NFULA_PAYLOAD) return ipHere(bytes, at + 4, end);
    at += (length + 3) & ~3;
  }
  return NOT_IP;
}
