import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { HeaderList } from '../../../src/protocol/http2/headers.ts';
import { HpackDecoder } from '../../../src/protocol/http2/hpack.ts';
import { decoded, decodeHuffman, huffmanText } from '../../../src/protocol/http2/huffman.ts';
import { FieldNames } from '../../../src/protocol/http2/names.ts';
import { Encoder, type FieldLine, integer, literalString } from '../../support/protocols/http2.ts';

const NAMES = new FieldNames(
  new Set(['cache-control', 'custom-key', 'date', 'location', 'password', 'content-encoding', 'set-cookie']),
);
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** What is known of a block, as lines; `?` for a field of which nothing is known, `!` for a block that is none. */
function read(decoder: HpackDecoder, block: Buffer): string[] {
  const list = new HeaderList(100);
  list.begin();
  const whole = decoder.decode(block, 0, block.length, list);
  const lines = [...list.headers()].flatMap(([name, values]) => values.map((value) => `${name}: ${value}`));
  if (list.method !== '') lines.unshift(`:method: ${list.method}`);
  if (list.scheme !== '') lines.unshift(`:scheme: ${list.scheme}`);
  if (list.path !== '') lines.unshift(`:path: ${list.path}`);
  if (list.status !== 0) lines.unshift(`:status: ${list.status}`);
  if (list.unknown) lines.push('?');
  if (!whole) lines.push('!');
  return lines.sort();
}

/** RFC 7541 appendix C: blocks of one connection, their fields, and the size of the table after each. */
const VECTORS: Record<string, { table?: number; blocks: [wire: string, fields: string[], size: number][] }> = {
  'C.2.1': { blocks: [['400a637573746f6d2d6b65790d637573746f6d2d686561646572', ['custom-key: custom-header'], 55]] },
  'C.2.2': { blocks: [['040c2f73616d706c652f70617468', [':path: /sample/path'], 0]] },
  'C.2.3': { blocks: [['100870617373776f726406736563726574', ['password: secret'], 0]] },
  'C.2.4': { blocks: [['82', [':method: GET'], 0]] },
  'C.3': {
    blocks: [
      [
        '828684410f7777772e6578616d706c652e636f6d',
        [':method: GET', ':path: /', ':scheme: http', 'host: www.example.com'],
        57,
      ],
      [
        '828684be58086e6f2d6361636865',
        [':method: GET', ':path: /', ':scheme: http', 'cache-control: no-cache', 'host: www.example.com'],
        110,
      ],
      [
        '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
        [':method: GET', ':path: /index.html', ':scheme: https', 'custom-key: custom-value', 'host: www.example.com'],
        164,
      ],
    ],
  },
  'C.4': {
    blocks: [
      [
        '828684418cf1e3c2e5f23a6ba0ab90f4ff',
        [':method: GET', ':path: /', ':scheme: http', 'host: www.example.com'],
        57,
      ],
      [
        '828684be5886a8eb10649cbf',
        [':method: GET', ':path: /', ':scheme: http', 'cache-control: no-cache', 'host: www.example.com'],
        110,
      ],
      [
        '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
        [':method: GET', ':path: /index.html', ':scheme: https', 'custom-key: custom-value', 'host: www.example.com'],
        164,
      ],
    ],
  },
  'C.5': {
    table: 256,
    blocks: [
      [
        '4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d',
        responseLines(302, '21'),
        222,
      ],
      ['4803333037c1c0bf', responseLines(307, '21'), 222],
      [
        '88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31',
        lastResponseLines(),
        215,
      ],
    ],
  },
  'C.6': {
    table: 256,
    blocks: [
      [
        '488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
        responseLines(302, '21'),
        222,
      ],
      ['4883640effc1c0bf', responseLines(307, '21'), 222],
      [
        '88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
        lastResponseLines(),
        215,
      ],
    ],
  },
};

function responseLines(status: number, second: string): string[] {
  return [
    `:status: ${status}`,
    'cache-control: private',
    `date: Mon, 21 Oct 2013 20:13:${second} GMT`,
    'location: https://www.example.com',
  ];
}

function lastResponseLines(): string[] {
  const cookie = 'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1';
  return [...responseLines(200, '22'), 'content-encoding: gzip', cookie];
}

describe('RFC 7541 appendix C', () => {
  for (const [name, { table, blocks }] of Object.entries(VECTORS)) {
    test(name, () => {
      const decoder = new HpackDecoder(NAMES, 65_536);
      // Nobody wants anything: the table is the same.
      const blind = new HpackDecoder(new FieldNames(new Set()), 65_536);
      if (table !== undefined) for (const d of [decoder, blind]) read(d, integer(table, 5, 0x20));
      for (const [wire, fields, size] of blocks) {
        assert.deepEqual(read(decoder, hex(wire)), fields.sort());
        read(blind, hex(wire));
        assert.deepEqual([decoder.tableBytes, blind.tableBytes], [size, size]);
        assert.equal(decoder.tableEntries, blind.tableEntries);
      }
    });
  }

  test('C.5: the table after its last block', () => {
    const decoder = new HpackDecoder(NAMES, 65_536);
    read(decoder, integer(256, 5, 0x20));
    for (const [wire] of VECTORS['C.5']!.blocks) read(decoder, hex(wire));
    assert.deepEqual(
      [62, 63, 64, 65].map((index) => decoder.entry(index)?.name?.key),
      ['set-cookie', 'content-encoding', 'date', undefined],
    );
  });

  test('C.1: integers', () => {
    const decoder = new HpackDecoder(NAMES, 65_536);
    // 1337 with a prefix of 5 bits, as the size of the table; 42 in 8 bits has no place in HPACK.
    for (const wire of ['2a', '3f9a0a']) assert.deepEqual(read(decoder, hex(wire)), []);
    for (const wire of ['3f', '3f9a', '3fffffffffffffffffff7f', '3f8080808080808001']) {
      assert.deepEqual(read(decoder, hex(wire)), ['!'], wire);
    }
  });
});

describe('Huffman', () => {
  test('symbols of every length', () => {
    // Codes as appendix B prints them.
    const codes: [string, string][] = [
      ['0', '00000'],
      ['t', '01001'],
      [' ', '010100'],
      ['z', '1111011'],
      ['&', '11111000'],
      ['?', '1111111100'],
      ['+', '11111111011'],
      ['#', '111111111010'],
      ['~', '1111111111101'],
      ['}', '11111111111101'],
      ['<', '111111111111100'],
      ['\\', '1111111111111110000'],
      ['\x80', '11111111111111100110'],
      ['\t', '111111111111111111101010'],
      ['\xf9', '1111111111111111111111111110'],
      ['\n', '111111111111111111111111111100'],
      ['\x16', '111111111111111111111111111110'],
    ];
    for (const [symbol, code] of codes) {
      const bits = `${code}${code}`;
      const filled = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1');
      const bytes = Buffer.from(filled.match(/.{8}/g)!.map((byte) => Number.parseInt(byte, 2)));
      assert.equal(huffmanText(bytes, 0, bytes.length), symbol + symbol, code);
    }
  });

  test('what is no encoding', () => {
    // EOS; eight bits of padding; padding with a zero in it.
    for (const wire of ['ffffffff', '1fff', '18', 'ffff']) {
      const bytes = hex(wire);
      assert.equal(huffmanText(bytes, 0, bytes.length), undefined, wire);
    }
    assert.equal(huffmanText(hex('1f'), 0, 1), 'a');
    assert.equal(huffmanText(hex('1f'), 0, 0), '');
  });

  test('a text of any length', () => {
    // 'a' is 00011: eight of them are five octets.
    const octets = Buffer.concat(new Array(20_000).fill(hex('18c6318c63')));
    assert.equal(decodeHuffman(octets, 0, octets.length), 160_000);
    assert.equal(
      decoded.subarray(0, 160_000).every((byte) => byte === 0x61),
      true,
    );
  });
});

/** Header blocks of one connection each, with changes of the table's size, as other encoders made them; and the fields that they hold. */
for (const encoder of ['golang-x-net', 'python-hpack']) {
  test(`what ${encoder} encoded`, () => {
    const file = new URL(`../../golden/hpack/${encoder}.json`, import.meta.url);
    const blocks = JSON.parse(readFileSync(file, 'utf8')) as { wire: string; fields: [string, string][] }[];
    const decoder = new HpackDecoder(NAMES, 65_536);
    const known = new Set([':method', ':scheme', ':path', ':status', ':authority', 'cache-control', 'custom-key']);
    for (const name of ['date', 'location', 'content-encoding']) known.add(name);
    assert.equal(blocks.length, 100);
    let most = 0;
    for (const { wire, fields } of blocks) {
      const expected = fields
        .filter(([name]) => known.has(name))
        .map(([name, value]) => `${name === ':authority' ? 'host' : name}: ${Buffer.from(value).toString('latin1')}`);
      assert.deepEqual(read(decoder, hex(wire)), expected.sort());
      most = Math.max(most, decoder.tableEntries);
    }
    assert.ok(most > 10, `${most} entries`);
  });
}

const NAME_LIST = [':path', 'cache-control', 'custom-key', 'x-unwanted', 'cookie', 'date', 'user-agent', 'x-two'];
const line: fc.Arbitrary<FieldLine> = fc.tuple(
  fc.constantFrom(...NAME_LIST),
  fc.oneof(fc.constantFrom('', 'a', 'b', 'x'.repeat(60)), fc.string({ maxLength: 20 })),
  fc.constantFrom<('index' | 'literal' | 'never')[]>('index', 'index', 'literal', 'never'),
);
const KNOWN = new Set([':path', 'cache-control', 'custom-key', 'date']);

function expectedLines(fields: readonly FieldLine[]): string[] {
  const lines: string[] = [];
  let path = '';
  for (const [name, value] of fields) {
    if (name === ':path') path = Buffer.from(value, 'latin1').toString('latin1');
    else if (KNOWN.has(name)) lines.push(`${name}: ${Buffer.from(value, 'latin1').toString('latin1')}`);
  }
  if (path !== '') lines.push(`:path: ${path}`);
  return lines.sort();
}

const block = fc.record({
  fields: fc.array(line, { maxLength: 8 }),
  resize: fc.option(fc.nat(300), { nil: undefined, freq: 5 }),
  lost: fc.boolean(),
});

function encode(encoder: Encoder, b: { fields: readonly FieldLine[]; resize: number | undefined }): Buffer {
  const update = b.resize === undefined ? Buffer.alloc(0) : encoder.resize(b.resize);
  return Buffer.concat([update, encoder.encode(b.fields)]);
}

test('what an encoder wrote is read, whatever it did to its table', () => {
  fc.assert(
    fc.property(fc.array(block, { maxLength: 30 }), (blocks) => {
      const encoder = new Encoder();
      const decoder = new HpackDecoder(NAMES, 65_536);
      for (const b of blocks) {
        assert.deepEqual(read(decoder, encode(encoder, b)), expectedLines(b.fields));
        assert.ok(decoder.tableBytes <= 4096);
      }
    }),
    { numRuns: 1000 },
  );
});

/** What was read is part of what was written, and all of it unless something is unknown. */
function assertHonest(lines: string[], expected: string[]): void {
  assert.ok(!lines.includes('!'));
  const unknown = lines.includes('?');
  const left = [...expected];
  for (const each of lines) {
    if (each === '?') continue;
    const at = left.indexOf(each);
    assert.ok(at >= 0, `${each} was never sent: ${expected.join(' | ')}`);
    left.splice(at, 1);
  }
  if (!unknown) assert.deepEqual(left, []);
}

test('after lost blocks nothing is told that was not sent', () => {
  let known = 0;
  fc.assert(
    fc.property(fc.array(block, { maxLength: 40 }), fc.constantFrom(100, 1000, 65_536), (blocks, cap) => {
      const encoder = new Encoder();
      const decoder = new HpackDecoder(NAMES, cap);
      for (const b of blocks) {
        const wire = encode(encoder, b);
        if (b.lost) decoder.lose();
        else {
          // Only the last path counts, and it may be the one that is not known.
          const fields = b.fields.filter(([name]) => name !== ':path');
          const lines = read(decoder, wire).filter((each) => !each.startsWith(':path'));
          assertHonest(lines, expectedLines(fields));
          known += lines.length;
        }
        assert.ok(decoder.tableBytes <= cap);
      }
    }),
    { numRuns: 2000 },
  );
  assert.ok(known > 5000);
});

test('a table beyond the limit is not kept, and its entries are not known', () => {
  const encoder = new Encoder();
  const decoder = new HpackDecoder(NAMES, 100);
  read(decoder, encoder.encode([['custom-key', 'a'.repeat(30)]]));
  read(decoder, encoder.encode([['custom-key', 'b'.repeat(30)]]));
  assert.deepEqual(read(decoder, encoder.encode([['custom-key', 'b'.repeat(30)]])), [`custom-key: ${'b'.repeat(30)}`]);
  assert.deepEqual(read(decoder, encoder.encode([['custom-key', 'a'.repeat(30)]])), ['?']);
});

test('a name that is not known', () => {
  const encoder = new Encoder();
  const decoder = new HpackDecoder(NAMES, 4096);
  const names = encoder.encode([['custom-key', 'one']]);
  decoder.lose();
  // Literals with the lost entry's name: with and without indexing.
  assert.deepEqual(read(decoder, encoder.encode([['custom-key', 'two']])), ['?']);
  assert.deepEqual(read(decoder, encoder.encode([['custom-key', 'two', 'literal']])), ['?']);
  assert.deepEqual(read(decoder, encoder.encode([['custom-key', 'two']])), ['?']);
  // A size of nothing empties the encoder's table, too.
  read(decoder, Buffer.concat([encoder.resize(0), encoder.resize(4096)]));
  assert.deepEqual(read(decoder, encoder.encode([['custom-key', 'three']])), ['custom-key: three']);
  assert.deepEqual(read(decoder, encoder.encode([['custom-key', 'three']])), ['custom-key: three']);
  assert.ok(names.length > 0);
});

test('garbage never throws, and holds no more than the table may', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 20 }), (blocks) => {
      const decoder = new HpackDecoder(NAMES, 1000);
      for (const bytes of blocks) {
        if (read(decoder, Buffer.from(bytes)).includes('!')) decoder.lose();
        assert.ok(decoder.tableBytes <= 1000);
      }
    }),
    { numRuns: 3000 },
  );
});

test('names are found however they are written', () => {
  const decoder = new HpackDecoder(NAMES, 4096);
  // custom-key with Huffman (appendix C.4.3), and plain, never indexed.
  assert.deepEqual(read(decoder, hex('408825a849e95ba97d7f8925a849e95bb8e8b4bf')), ['custom-key: custom-value']);
  const plain = Buffer.concat([Buffer.from([0x10]), literalString('custom-key'), literalString('v')]);
  assert.deepEqual(read(decoder, plain), ['custom-key: v']);
});
