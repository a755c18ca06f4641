/** Frames that carry one TCP packet below different link layers, tags and tunnels. */
import { ipPacket } from './packets.ts';

export const ETHERNET = 1;
export const SLL2 = 276;
export const RAW = 101;

export const encapsulated = ipPacket({ payload: 'hello, world' });

export function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

export function ethernet(type: string, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(12, 0x02), hex(type), payload]);
}

/** An IPv4 packet of any protocol. */
export function ip4(protocol: number, payload: Buffer, fragmentField = 0, id = 7): Buffer {
  const header = hex('45000000 00000000 40000000 0a000001 0a000002');
  header.writeUInt16BE(20 + payload.length, 2);
  header.writeUInt16BE(id, 4);
  header.writeUInt16BE(fragmentField, 6);
  header[9] = protocol;
  return Buffer.concat([header, payload]);
}

export function ip6(nextHeader: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(payload.length, 4);
  header[6] = nextHeader;
  return Buffer.concat([header, payload]);
}

export function udp(port: number, payload: Buffer): Buffer {
  const header = hex('c0000000 00000000');
  header.writeUInt16BE(port, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([header, payload]);
}

export const inner = ethernet('0800', encapsulated);
export const vxlan = (frame: Buffer): Buffer => udp(4789, Buffer.concat([hex('08000000 00000100'), frame]));

/** Name, link type, frame: each carries the same packet. */
export const encapsulations: [string, number, Buffer][] = [
  ['VLAN', ETHERNET, ethernet('8100 0007 0800', encapsulated)],
  ['QinQ', ETHERNET, ethernet('88a8 0007 8100 0008 0800', encapsulated)],
  ['VLAN in SLL2', SLL2, Buffer.concat([hex('8100'), Buffer.alloc(18), hex('0007 0800'), encapsulated])],
  ['VLAN in SLL', 113, Buffer.concat([Buffer.alloc(14), hex('8100 0007 0800'), encapsulated])],
  ['802.3 with SNAP', ETHERNET, ethernet('0044 aaaa03 000000 0800', encapsulated)],
  ['PPPoE', ETHERNET, ethernet('8864 11 00 0001 0036 0021', encapsulated)],
  ['PPPoE, protocol in one byte', ETHERNET, ethernet('8864 11 00 0001 0035 21', encapsulated)],
  ['PPPoE in a VLAN', ETHERNET, ethernet('8100 0007 8864 11 00 0001 0036 0021', encapsulated)],
  ['MPLS', ETHERNET, ethernet('8847 00010040 00020140', encapsulated)],
  ['MPLS pseudowire', ETHERNET, ethernet('8847 00010140 00000000', inner)],
  ['PPP with HDLC framing', 9, Buffer.concat([hex('ff03 0021'), encapsulated])],
  ['PPP without it', 9, Buffer.concat([hex('0021'), encapsulated])],
  ['PPP_ETHER', 51, Buffer.concat([hex('11 00 0001 0036 0021'), encapsulated])],
  ['NFLOG', 239, Buffer.concat([hex('02000000 0800010008000001 0500020041000000 3800 0900'), encapsulated])],
  ['VXLAN', ETHERNET, ethernet('0800', ip4(17, vxlan(inner)))],
  ['VXLAN on the port of Linux', RAW, ip4(17, udp(8472, Buffer.concat([hex('08000000 00000100'), inner])))],
  ['VXLAN over IPv6', ETHERNET, ethernet('86dd', ip6(17, vxlan(inner)))],
  ['VXLAN of a VLAN', RAW, ip4(17, vxlan(ethernet('8100 0007 0800', encapsulated)))],
  ['VXLAN-GPE, IPv4', RAW, ip4(17, udp(4790, Buffer.concat([hex('0c000001 00000100'), encapsulated])))],
  ['VXLAN-GPE, Ethernet', RAW, ip4(17, udp(4790, Buffer.concat([hex('0c000003 00000100'), inner])))],
  ['Geneve', RAW, ip4(17, udp(6081, Buffer.concat([hex('00006558 00000100'), inner])))],
  ['Geneve with options', RAW, ip4(17, udp(6081, Buffer.concat([hex('02006558 00000100 0102800100000001'), inner])))],
  ['Geneve, IP', RAW, ip4(17, udp(6081, Buffer.concat([hex('00000800 00000100'), encapsulated])))],
  ['IP in IP', RAW, ip4(4, encapsulated)],
  ['IP in IPv6', RAW, ip6(4, encapsulated)],
  ['IP in IPv6 with a destination option', RAW, ip6(60, Buffer.concat([hex('0400 0401 0401 0000'), encapsulated]))],
  ['GRE', RAW, ip4(47, Buffer.concat([hex('0000 0800'), encapsulated]))],
  ['GRE with key, sequence, checksum', RAW, ip4(47, Buffer.concat([hex('b000 0800'), Buffer.alloc(12), encapsulated]))],
  ['GRE of Ethernet', RAW, ip4(47, Buffer.concat([hex('2000 6558 00000001'), inner]))],
  ['ERSPAN I', RAW, ip4(47, Buffer.concat([hex('0000 88be'), inner]))],
  ['ERSPAN II', RAW, ip4(47, Buffer.concat([hex('1000 88be 00000001 10000000 00000000'), inner]))],
  ['ERSPAN III', RAW, ip4(47, Buffer.concat([hex('1000 22eb 00000001 20000000 00000000 00000000'), inner]))],
  [
    'ERSPAN III, longer',
    RAW,
    ip4(47, Buffer.concat([hex('1000 22eb 00000001 20000000 00000000 00000001'), Buffer.alloc(8), inner])),
  ],
  ['MPLS in UDP', RAW, ip4(17, udp(6635, Buffer.concat([hex('00010140'), encapsulated])))],
  ['MPLS in IP', RAW, ip4(137, Buffer.concat([hex('00010140'), encapsulated]))],
  ['MPLS in GRE', RAW, ip4(47, Buffer.concat([hex('0000 8847 00010140'), encapsulated]))],
  [
    'tunnels within tunnels',
    RAW,
    ip4(17, vxlan(ethernet('0800', ip4(4, ip4(47, Buffer.concat([hex('0000 0800'), encapsulated])))))),
  ],
];
