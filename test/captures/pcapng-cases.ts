/** PcapNG files of every kind of block, and what is in them. References are to draft-ietf-opsawg-pcapng. */
import type { Option, PcapngBlocks } from '../support/wire/capture-files.ts';
import { ADDRESSES, CUT, cut, EXAMPLE_ENTERPRISE, eth, loop, PACKETS, statistics, T, text } from './pcapng-parts.ts';

const { A, B, C, N, R } = PACKETS;

export interface PcapngCase {
  name: string;
  /** @param other writes in the other byte order */
  blocks(blocks: PcapngBlocks, other: PcapngBlocks): Buffer[];
  /** Of each packet: the link type's number, its time in microseconds or `-`, its name, bytes captured / bytes on the wire. */
  frames?: readonly string[];
  /** Packets without TCP/IP, by reason. */
  ignored?: Readonly<Record<string, number>>;
  /** Key logs, each behind the number of packets before it. */
  secrets?: readonly string[];
}

const NO_PACKETS: readonly PcapngCase[] = [
  { name: 'nothing but a section header', blocks: (b) => [b.sectionHeader()] },
  { name: 'an interface without packets', blocks: (b) => [b.sectionHeader(), b.interfaceDescription(eth(CUT))] },
  {
    name: 'an interface and its statistics',
    blocks: (b) => [b.sectionHeader(), b.interfaceDescription(eth(CUT)), b.interfaceStatistics(0, T, statistics(b))],
  },
  {
    name: 'several interfaces and their statistics',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth(CUT)),
      b.interfaceDescription(loop),
      b.interfaceStatistics(1, T),
      b.interfaceStatistics(0, T + 1n, statistics(b)),
      b.interfaceDescription(eth()),
      b.interfaceStatistics(2, T + 2n),
    ],
  },
  {
    name: 'an interface and names',
    blocks: (b) => [b.sectionHeader(), b.interfaceDescription(eth()), b.nameResolution(ADDRESSES)],
  },
  {
    name: 'custom blocks',
    blocks: (b) => [
      b.sectionHeader(),
      b.custom(EXAMPLE_ENTERPRISE, text('of our own')),
      b.custom(EXAMPLE_ENTERPRISE, text(''), false),
      b.custom(EXAMPLE_ENTERPRISE, text('abc')),
      b.custom(EXAMPLE_ENTERPRISE, text('not to be copied'), false),
    ],
  },
  {
    name: 'several sections without packets',
    blocks: (b) => [CUT, 0, 128].flatMap((length) => [b.sectionHeader(), b.interfaceDescription(eth(length))]),
  },
];

const ONE_SECTION: readonly PcapngCase[] = [
  {
    name: 'packets of one interface',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      ...[A, B, C, A].map((bytes, i) => b.enhancedPacket({ time: T + BigInt(i), bytes })),
    ],
    frames: [
      '1 1600000000000000 A 55/55',
      '1 1600000000000001 B 74/74',
      '1 1600000000000002 C 156/156',
      '1 1600000000000003 A 55/55',
    ],
  },
  {
    name: 'two interfaces of a link type, with different snapshot lengths',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth(CUT)),
      b.interfaceDescription(eth(128)),
      b.enhancedPacket({ interfaceId: 1, time: T, ...cut(C) }),
      b.enhancedPacket({ interfaceId: 0, time: T, ...cut(C) }),
      b.enhancedPacket({ interfaceId: 1, time: T + 1n, bytes: C.subarray(0, 128), originalLength: 156 }),
      b.enhancedPacket({ interfaceId: 0, time: T - 1n, bytes: A }),
    ],
    frames: [
      '1 1600000000000000 C 96/156',
      '1 1600000000000000 C 96/156',
      '1 1600000000000001 C 128/156',
      '1 1599999999999999 A 55/55',
    ],
  },
  {
    name: 'an interface that is described after the first packet',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      b.enhancedPacket({ time: T, bytes: A }),
      b.interfaceDescription(eth(128)),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: B }),
      b.enhancedPacket({ interfaceId: 0, time: T, bytes: C }),
    ],
    frames: ['1 1600000000000000 A 55/55', '1 1600000000000000 B 74/74', '1 1600000000000000 C 156/156'],
  },
  {
    name: 'two interfaces of different link types',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      b.interfaceDescription(loop),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: N }),
      b.enhancedPacket({ interfaceId: 0, time: T, bytes: A }),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: N }),
    ],
    frames: ['0 1600000000000000 N 45/45', '1 1600000000000000 A 55/55', '0 1600000000000000 N 45/45'],
  },
  {
    name: 'simple packets',
    blocks: (b) => [b.sectionHeader(), b.interfaceDescription(eth()), ...[A, B, C, A].map((x) => b.simplePacket(x))],
    frames: ['1 - A 55/55', '1 - B 74/74', '1 - C 156/156', '1 - A 55/55'],
  },
  {
    name: 'simple and enhanced packets',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      b.simplePacket(A),
      b.enhancedPacket({ time: T, bytes: B }),
      b.simplePacket(C),
      b.enhancedPacket({ time: T, bytes: A }),
    ],
    frames: ['1 - A 55/55', '1 1600000000000000 B 74/74', '1 - C 156/156', '1 1600000000000000 A 55/55'],
  },
  {
    name: 'a snapshot length that is beyond some packets, and below others',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth(CUT)),
      b.simplePacket(A),
      b.simplePacket(C.subarray(0, CUT), C.length),
      b.enhancedPacket({ time: T, ...cut(C) }),
      b.enhancedPacket({ time: T, bytes: B }),
    ],
    frames: ['1 - A 55/55', '1 - C 96/156', '1 1600000000000000 C 96/156', '1 1600000000000000 B 74/74'],
  },
  {
    name: 'obsolete packet blocks',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth(CUT)),
      b.interfaceDescription(loop),
      b.obsoletePacket({ time: T, bytes: A }),
      b.obsoletePacket({ interfaceId: 1, time: T, bytes: N, options: [[2, 1]] }, 17),
      b.obsoletePacket({ time: T, ...cut(C) }, 0xffff),
    ],
    frames: ['1 1600000000000000 A 55/55', '0 1600000000000000 N 45/45', '1 1600000000000000 C 96/156'],
  },
  {
    name: 'packets of every length modulo 4, and of none',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      ...[0, 1, 2, 3, 4, 5].map((length) =>
        b.enhancedPacket({ time: T, bytes: A.subarray(0, length), originalLength: 55 }),
      ),
      b.enhancedPacket({ time: T, bytes: A }),
    ],
    frames: [...[0, 1, 2, 3, 4, 5].map((length) => `1 1600000000000000 A ${length}/55`), '1 1600000000000000 A 55/55'],
    ignored: { truncated_headers: 6 },
  },
  {
    name: 'packets that hold no IP',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      // LINKTYPE_USER0
      b.interfaceDescription({ linkType: 147 }),
      b.enhancedPacket({ time: T, bytes: R }),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: A }),
      b.enhancedPacket({ time: T, bytes: A }),
    ],
    frames: ['1 1600000000000000 R 42/42', '147 1600000000000000 A 55/55', '1 1600000000000000 A 55/55'],
    ignored: { not_ip: 1, link_type: 1 },
  },
];

const OPTIONS: readonly PcapngCase[] = [
  {
    name: 'a section header with all options, and the length of its section',
    blocks(b) {
      const rest = [b.interfaceDescription(eth()), b.enhancedPacket({ time: T, bytes: A })];
      const options: Option[] = [
        [1, 'one comment'],
        [1, 'another\none'],
        [2, 'a machine'],
        [3, 'its system'],
        [4, 'what wrote it'],
        [2988, Buffer.concat([Buffer.alloc(4), text('custom, UTF-8')])],
        [2989, Buffer.alloc(9)],
        [19_372, Buffer.alloc(4)],
        [19_373, Buffer.alloc(5)],
      ];
      return [b.sectionHeader(options, BigInt(Buffer.concat(rest).length)), ...rest];
    },
    frames: ['1 1600000000000000 A 55/55'],
  },
  {
    name: 'interfaces with all options',
    blocks(b) {
      const options = (unit: number): Option[] => [
        [1, 'a comment'],
        [2, 'eth0 of it'],
        [3, 'what it is for'],
        [4, Buffer.from([10, 0, 0, 1, 255, 255, 255, 0])],
        [5, Buffer.from('fd00000000000000000000000000000140', 'hex')],
        [6, Buffer.from('020202020202', 'hex')],
        [7, Buffer.from('0202020202020202', 'hex')],
        [8, 1_000_000_000n],
        [9, Buffer.from([unit])],
        [10, 1],
        [11, text('\0tcp port 80')],
        [12, 'a system'],
        [13, Buffer.from([0])],
        [14, 0n],
        [15, 'a card'],
        [16, 10n],
        [17, 20n],
        [0x7fff, 'not known'],
      ];
      return [
        b.sectionHeader(),
        b.interfaceDescription(eth(0, options(9))),
        b.enhancedPacket({ time: T * 1000n + 250n, bytes: A }),
        b.interfaceDescription(eth(128, options(6))),
        b.enhancedPacket({ interfaceId: 1, time: T, bytes: B }),
        b.enhancedPacket({ time: T * 1000n + 500n, bytes: C }),
      ];
    },
    frames: ['1 1600000000000000.25 A 55/55', '1 1600000000000000 B 74/74', '1 1600000000000000.5 C 156/156'],
  },
  {
    name: 'packets with all options',
    blocks(b) {
      const options: Option[] = [
        [1, 'a comment'],
        [1, 'and one more'],
        [2, 0x0000_0001],
        [3, Buffer.from('021234abcd', 'hex')],
        [4, 3n],
        [5, 77n],
        [6, 2],
        [7, Buffer.from([0, 1])],
        [2988, Buffer.alloc(7)],
      ];
      return [
        b.sectionHeader(),
        b.interfaceDescription(eth()),
        b.enhancedPacket({ time: T, bytes: A, options }),
        b.enhancedPacket({ time: T, bytes: B, options: [[2, 2]] }),
      ];
    },
    frames: ['1 1600000000000000 A 55/55', '1 1600000000000000 B 74/74'],
  },
  {
    name: 'units of time, of ten and of two',
    blocks(b) {
      // 4.2 if_tsresol: seconds, milliseconds, microseconds, nanoseconds; 2^-10 and 2^-20 seconds
      const units = [0, 3, 6, 9, 0x8a, 0x94];
      const seconds = T / 1_000_000n;
      const times = [
        seconds,
        seconds * 1000n + 5n,
        T + 5n,
        T * 1000n + 750n,
        seconds * 1024n + 512n,
        (seconds << 20n) + (1n << 18n),
      ];
      return [
        b.sectionHeader(),
        ...units.map((unit) => b.interfaceDescription(eth(0, [[9, Buffer.from([unit])]]))),
        ...times.map((time, interfaceId) => b.enhancedPacket({ interfaceId, time, bytes: A })),
      ];
    },
    frames: [
      '1 1600000000000000 A 55/55',
      '1 1600000000005000 A 55/55',
      '1 1600000000000005 A 55/55',
      '1 1600000000000000.75 A 55/55',
      '1 1600000000500000 A 55/55',
      '1 1600000000250000 A 55/55',
    ],
  },
  {
    name: 'offsets of time, ahead and back',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth(0, [[14, 1_600_000_000n]])),
      b.interfaceDescription(eth(0, [[14, -3600n]])),
      b.enhancedPacket({ time: 7n, bytes: A }),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: B }),
    ],
    frames: ['1 1600000000000007 A 55/55', '1 1599996400000000 B 74/74'],
  },
];

const AMONG_PACKETS: readonly PcapngCase[] = [
  {
    name: 'names among packets',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      b.nameResolution(ADDRESSES),
      b.simplePacket(A),
      b.enhancedPacket({ time: T, bytes: B }),
      b.nameResolution([], [[1, 'no names']]),
      b.enhancedPacket({ time: T, bytes: C }),
      b.nameResolution(ADDRESSES.slice(1)),
    ],
    frames: ['1 - A 55/55', '1 1600000000000000 B 74/74', '1 1600000000000000 C 156/156'],
  },
  {
    name: 'names of unknown types, and more than once',
    blocks: (b) => [
      b.sectionHeader(),
      b.nameResolution([[77, 'not known'], ...ADDRESSES, ...ADDRESSES, [0x7fff, '']]),
      b.interfaceDescription(eth()),
      b.simplePacket(A),
      b.nameResolution(ADDRESSES, [
        [2, 'a server of names'],
        [3, Buffer.from([10, 0, 0, 53])],
        [4, Buffer.alloc(16, 1)],
      ]),
      b.interfaceDescription(loop),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: N }),
    ],
    frames: ['1 - A 55/55', '0 1600000000000000 N 45/45'],
  },
  {
    name: 'statistics among packets, more than once',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      b.interfaceDescription(loop),
      b.enhancedPacket({ time: T, bytes: A }),
      b.interfaceStatistics(1, T),
      b.interfaceStatistics(0, T, statistics(b)),
      b.interfaceStatistics(0, T, statistics(b).slice(3)),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: N }),
      b.interfaceStatistics(1, T, statistics(b)),
      b.simplePacket(B),
      b.interfaceStatistics(0, T),
    ],
    frames: ['1 1600000000000000 A 55/55', '0 1600000000000000 N 45/45', '1 - B 74/74'],
  },
  {
    name: 'custom blocks among packets',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth()),
      b.custom(EXAMPLE_ENTERPRISE, text('before')),
      b.simplePacket(A),
      b.custom(EXAMPLE_ENTERPRISE, A, false),
      b.enhancedPacket({ time: T, bytes: B }),
      b.custom(EXAMPLE_ENTERPRISE, text('after')),
    ],
    frames: ['1 - A 55/55', '1 1600000000000000 B 74/74'],
  },
  {
    name: 'secrets before, among and behind packets',
    blocks: (b) => [
      b.sectionHeader(),
      b.decryptionSecrets(text('# first\n')),
      b.interfaceDescription(eth()),
      b.enhancedPacket({ time: T, bytes: A }),
      b.decryptionSecrets(text('# second, of another length\n'), undefined, [[1, 'a comment']]),
      // WireGuard's, which are none of TLS.
      b.decryptionSecrets(text('LOCAL_STATIC_PRIVATE_KEY = none\n'), 0x5747_4b4c),
      b.enhancedPacket({ time: T, bytes: B }),
      b.decryptionSecrets(text('# third\n')),
    ],
    frames: ['1 1600000000000000 A 55/55', '1 1600000000000000 B 74/74'],
    secrets: ['0 # first\n', '1 # second, of another length\n', '2 # third\n'],
  },
  {
    name: 'blocks of unknown types',
    blocks: (b) => [
      b.sectionHeader(),
      b.block(0x7fff_ffff, text('of nobody')),
      b.interfaceDescription(eth()),
      b.block(0x8000_0001, A),
      b.enhancedPacket({ time: T, bytes: A }),
      b.block(0x0000_0bac),
      b.enhancedPacket({ time: T, bytes: B }),
    ],
    frames: ['1 1600000000000000 A 55/55', '1 1600000000000000 B 74/74'],
  },
  {
    name: 'every type of block',
    blocks: (b) => [
      b.sectionHeader([[1, 'a comment']]),
      b.custom(EXAMPLE_ENTERPRISE, text('x')),
      b.nameResolution(ADDRESSES),
      b.interfaceDescription(eth(CUT)),
      b.interfaceDescription(loop),
      b.interfaceStatistics(0, T, statistics(b)),
      b.decryptionSecrets(text('# of all\n')),
      b.enhancedPacket({ time: T, bytes: A, options: [[2, 1]] }),
      b.block(0x7fff_0000, text('nobody')),
      b.obsoletePacket({ interfaceId: 1, time: T, bytes: N }),
      b.custom(EXAMPLE_ENTERPRISE, text('xy'), false),
      b.simplePacket(C.subarray(0, CUT), C.length),
      b.interfaceStatistics(1, T),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: N }),
      b.nameResolution(ADDRESSES),
    ],
    frames: ['1 1600000000000000 A 55/55', '0 1600000000000000 N 45/45', '1 - C 96/156', '0 1600000000000000 N 45/45'],
    secrets: ['0 # of all\n'],
  },
];

const SECTIONS: readonly PcapngCase[] = [
  {
    name: 'sections that each number their interfaces from 0',
    blocks: (b) => [
      b.sectionHeader(),
      b.interfaceDescription(eth(CUT)),
      b.interfaceDescription(loop),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: N }),
      b.interfaceStatistics(1, T),
      b.sectionHeader(),
      b.interfaceDescription(loop),
      b.enhancedPacket({ time: T, bytes: N }),
      b.interfaceStatistics(0, T, statistics(b)),
      b.simplePacket(N),
      b.sectionHeader(),
      b.interfaceDescription(eth(0, [[9, Buffer.from([9])]])),
      b.interfaceDescription(eth()),
      b.enhancedPacket({ time: T * 1000n, bytes: C }),
      b.enhancedPacket({ interfaceId: 1, time: T, bytes: A }),
    ],
    frames: [
      '0 1600000000000000 N 45/45',
      '0 1600000000000000 N 45/45',
      '0 - N 45/45',
      '1 1600000000000000 C 156/156',
      '1 1600000000000000 A 55/55',
    ],
  },
  {
    name: 'sections of both byte orders, with every type of block',
    blocks: (b, other) =>
      [b, other, b, other].flatMap((order, i) => [
        order.sectionHeader([[4, `section ${i}`]]),
        order.nameResolution(ADDRESSES),
        order.interfaceDescription(i % 3 === 0 ? eth(CUT) : loop),
        order.custom(EXAMPLE_ENTERPRISE, text('x'.repeat(i))),
        order.interfaceDescription(eth(0, [[14, BigInt(-i)]])),
        order.decryptionSecrets(text(`# section ${i}\n`)),
        order.simplePacket(i % 3 === 0 ? A : N),
        order.enhancedPacket({ interfaceId: 1, time: T, bytes: B, options: [[1, 'a comment']] }),
        order.interfaceStatistics(1, T, statistics(order)),
        order.block(0x7fff_0000, text('nobody')),
        order.obsoletePacket({ interfaceId: 1, time: T, bytes: C }),
      ]),
    frames: [
      ...['1 - A 55/55', '1 1600000000000000 B 74/74', '1 1600000000000000 C 156/156'],
      ...['0 - N 45/45', '1 1599999999000000 B 74/74', '1 1599999999000000 C 156/156'],
      ...['0 - N 45/45', '1 1599999998000000 B 74/74', '1 1599999998000000 C 156/156'],
      ...['1 - A 55/55', '1 1599999997000000 B 74/74', '1 1599999997000000 C 156/156'],
    ],
    secrets: [0, 1, 2, 3].map((i) => `${3 * i} # section ${i}\n`),
  },
];

export const PCAPNG_CASES: readonly PcapngCase[] = [
  ...NO_PACKETS,
  ...ONE_SECTION,
  ...OPTIONS,
  ...AMONG_PACKETS,
  ...SECTIONS,
];
