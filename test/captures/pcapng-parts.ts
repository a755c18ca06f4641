/** What the cases of PcapNG are made of. */
import { LINK_ETHERNET, LINK_NULL, type Option, type PcapngBlocks } from '../support/wire/capture-files.ts';
import { ipPacket } from '../support/wire/packets.ts';

const ethernet = (type: number, payload: Buffer): Buffer =>
  Buffer.concat([Buffer.alloc(12, 2), Buffer.from([type >> 8, type & 255]), payload]);
const family = Buffer.from([2, 0, 0, 0]);

/** Packets by name; their lengths differ modulo 4, as each is padded. */
export const PACKETS = {
  /** 55 bytes */
  A: ethernet(0x0800, ipPacket({ payload: 'a' })),
  /** 74 bytes and an IPv6 header */
  B: ethernet(0x86dd, ipPacket({ from: 'fd00::1', to: 'fd00::2' })),
  /** 156 bytes: beyond the snapshot length of some interfaces */
  C: ethernet(0x0800, ipPacket({ from: '10.0.0.2', to: '10.0.0.1', payload: 'c'.repeat(102) })),
  /** 45 bytes behind an address family */
  N: Buffer.concat([family, ipPacket({ from: '127.0.0.1', to: '127.0.0.1', payload: 'n' })]),
  /** 42 bytes of ARP */
  R: ethernet(0x0806, Buffer.alloc(28, 1)),
} as const;

/** In microseconds: 2020-09-13. */
export const T = 1_600_000_000_000_000n;
export const CUT = 96;
export const cut = (bytes: Buffer): { bytes: Buffer; originalLength: number } => ({
  bytes: bytes.subarray(0, CUT),
  originalLength: bytes.length,
});
export const text = (value: string): Buffer => Buffer.from(value);
export const EXAMPLE_ENTERPRISE = 32_473;
export const ADDRESSES: readonly Option[] = [
  [1, text('\x0a\0\0\x01shop\0shop.example\0')],
  [2, Buffer.concat([Buffer.from('fd000000000000000000000000000001', 'hex'), text('shop\0')])],
];

export const eth = (snapLength = 0, options: readonly Option[] = []) => ({
  linkType: LINK_ETHERNET,
  snapLength,
  options,
});
export const loop = { linkType: LINK_NULL };

/** 4.6: when it began and ended, and what was counted. */
export function statistics(b: PcapngBlocks): Option[] {
  const counts = [4n, 5n, 6n, 7n].map((value, i): Option => [4 + i, value]);
  return [[1, 'what was lost'], [2, b.halves(T)], [3, b.halves(T + 9n)], ...counts];
}
