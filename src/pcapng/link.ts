/** Link types of pcap and pcapng, by their LINKTYPE_ names (https://www.tcpdump.org/linktypes.html). */
export const LINKTYPE_RAW = 101;
const LINKTYPE_NULL = 0;
const LINKTYPE_ETHERNET = 1;
/** DLT_RAW of some systems, written into files by mistake. */
const DLT_RAW = 12;
const DLT_RAW_OPENBSD = 14;
const LINKTYPE_LOOP = 108;
const LINKTYPE_LINUX_SLL = 113;
const LINKTYPE_IPV4 = 228;
const LINKTYPE_IPV6 = 229;
const LINKTYPE_LINUX_SLL2 = 276;

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const MAX_VLAN_TAGS = 8;

/** Why a frame has no IP packet to offer. */
export const NOT_IP = -1;
export const UNKNOWN_LINK_TYPE = -2;
export const TRUNCATED_LINK_HEADER = -3;

/**
 * Where the IP packet begins in a frame.
 *
 * @returns its offset in `bytes`, or a negative reason
 */
export function ipStart(linkType: number, bytes: Buffer, start: number, end: number): number {
  switch (linkType) {
    case LINKTYPE_ETHERNET:
      return etherType(bytes, start + 12, end);
    case LINKTYPE_RAW:
    case DLT_RAW:
    case DLT_RAW_OPENBSD:
    case LINKTYPE_IPV4:
    case LINKTYPE_IPV6:
      return checked(bytes, start, end);
    case LINKTYPE_NULL:
    case LINKTYPE_LOOP:
      // The four bytes are an address family whose numbers differ by system: the version of the IP header says the same.
      return checked(bytes, start + 4, end);
    case LINKTYPE_LINUX_SLL:
      return etherType(bytes, start + 14, end);
    case LINKTYPE_LINUX_SLL2:
      if (start + 20 > end) return TRUNCATED_LINK_HEADER;
      return isIp(bytes.readUInt16BE(start)) ? checked(bytes, start + 20, end) : NOT_IP;
    default:
      return UNKNOWN_LINK_TYPE;
  }
}

/** Reads an EtherType, past the tags of virtual LANs (IEEE 802.1Q: type, tag, the next type). */
function etherType(bytes: Buffer, at: number, end: number): number {
  for (let tags = 0; tags <= MAX_VLAN_TAGS; tags++) {
    if (at + 2 > end) return TRUNCATED_LINK_HEADER;
    const type = bytes.readUInt16BE(at);
    if (isIp(type)) return checked(bytes, at + 2, end);
    if (type !== 0x8100 && type !== 0x88a8 && type !== 0x9100) return NOT_IP;
    at += 4;
  }
  return NOT_IP;
}

function isIp(type: number): boolean {
  return type === ETHERTYPE_IPV4 || type === ETHERTYPE_IPV6;
}

function checked(bytes: Buffer, at: number, end: number): number {
  if (at >= end) return TRUNCATED_LINK_HEADER;
  const version = bytes[at]! >> 4;
  return version === 4 || version === 6 ? at : NOT_IP;
}
