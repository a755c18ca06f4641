/** Headers of the PROXY protocol in front of all protocols, through the whole pipeline. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Exchange } from '../../../src/exchange/exchange.ts';
import { FROM_CLIENT, type RelayedClient } from '../../../src/flow/connection.ts';
import { Pipeline } from '../../../src/pipeline.ts';
import { defaultAllLimits } from '../../../src/protocol/registry.ts';
import { SecretStore } from '../../../src/secrets/store.ts';
import { type Counters, newCounters } from '../../../src/telemetry/counters.ts';
import { typed } from '../../support/protocols/exchanges.ts';
import * as http2 from '../../support/protocols/http2.ts';
import { Script } from '../../support/protocols/http2.ts';
import { ok, query, result, session } from '../../support/protocols/mysql.ts';
import { c, s, welcome } from '../../support/protocols/postgres.ts';
import { builder, views } from '../../support/spans/fixtures.ts';
import { recordNode } from '../../support/tls/records.ts';
import { packetRecord } from '../../support/wire/packets.ts';
import { newProtocols } from '../../support/wire/protocols.ts';

type Talk = readonly (readonly [who: 'C' | 'S' | 'hole', bytes: Buffer | string])[];

interface Outcome {
  /** `protocol what outcome [client that the header names]` of each exchange. */
  said: string[];
  counters: Counters;
  swapped: boolean;
}

const protocols = newProtocols();

function relayed(client: RelayedClient | undefined): string {
  return client === undefined ? '-' : `${client.address} ${client.port}`;
}

function describeExchange(emitted: Exchange): string {
  const exchange = typed(emitted);
  const { relayedFor } = exchange.connection;
  switch (exchange.protocol) {
    case 'http':
      return `http ${exchange.method} ${exchange.target} ${exchange.statusCode} ${relayed(relayedFor)}`;
    case 'postgresql':
    case 'mysql':
      return `${exchange.protocol} ${exchange.statement?.text} ${relayed(relayedFor)}`;
    default:
      return exchange.protocol;
  }
}

function converse(talk: Talk, { keyLog = '', startSeen = true, close = true } = {}): Outcome {
  const counters = newCounters();
  const secrets = new SecretStore(defaultAllLimits, counters);
  if (keyLog !== '') secrets.addKeyLogText(Buffer.from(keyLog));
  const said: string[] = [];
  let swapped = false;
  const errors: unknown[] = [];
  const spans = builder();
  spans.build = (exchange) => {
    said.push(describeExchange(exchange));
    swapped = exchange.connection.client.port !== 40_000;
    return [];
  };
  const pipeline = new Pipeline({
    limits: defaultAllLimits,
    counters,
    secrets,
    protocols,
    spans,
    outputs: [],
    views: views(),
    onInternalError: (error) => errors.push(error),
  });
  const next = { C: 1001, S: 5001 };
  let timeUs = 1_000_000;
  const send = (who: 'C' | 'S', flags: string, payload: Buffer | string = '') => {
    const ends = who === 'C' ? {} : { from: '10.0.0.2', to: '10.0.0.1', srcPort: 80, dstPort: 40_000 };
    const ack = flags === 'S' && who === 'C' ? {} : { ack: next[who === 'C' ? 'S' : 'C'] };
    pipeline.packet(packetRecord({ ...ends, seq: next[who], ...ack, flags, payload, timeUs: timeUs++ }));
    next[who] += Buffer.from(payload as string, 'latin1').length + (flags === '' || flags === 'P' ? 0 : 1);
  };
  if (startSeen) {
    next.C--;
    next.S--;
    send('C', 'S');
    send('S', 'S');
  }
  for (const [who, bytes] of talk) {
    const all = Buffer.from(bytes as string, 'latin1');
    if (who === 'hole') {
      next.C += all.length;
      continue;
    }
    for (let at = 0; at < all.length; at += 1400) send(who, 'P', all.subarray(at, at + 1400));
  }
  if (close) {
    send('C', 'F');
    send('S', 'F');
  }
  pipeline.finish('shutdown', timeUs);
  assert.deepEqual(errors, []);
  return { said, counters, swapped };
}

/** The header and the client's first bytes: apart, as one, and cut at every place. */
function* arrangements(header: Buffer, talk: Talk, places: number): Generator<Talk> {
  const at = talk.findIndex(([who]) => who === 'C');
  const first = Buffer.from(talk[at]![1] as string, 'latin1');
  const rest = talk.slice(at + 1);
  const before = talk.slice(0, at);
  const both = Buffer.concat([header, first]);
  yield [...before, ['C', header], ['C', first], ...rest];
  yield [...before, ['C', both], ...rest];
  const step = header.length > 600 ? 29 : 1;
  for (let cut = 1; cut < Math.min(both.length, header.length + places); cut += cut < 64 ? 1 : step)
    yield [...before, ['C', both.subarray(0, cut)], ['C', both.subarray(cut)], ...rest];
  const bytes = Array.from(both.subarray(0, 400), (byte) => ['C', Buffer.of(byte)] as const);
  yield [...before, ...bytes, ['C', both.subarray(400)], ...rest];
  // The proxy does not wait for the server, which may have spoken all the same.
  if (at > 0) yield [['C', header], ...before, ['C', first], ...rest];
}

function v2(command: number, family: number, addresses: Buffer, tlvs: Buffer = Buffer.alloc(0), version = 2): Buffer {
  const head = Buffer.from('\r\n\r\n\0\r\nQUIT\n\0\0\0\0', 'latin1');
  head[12] = (version << 4) | command;
  head[13] = family;
  head.writeUInt16BE(addresses.length + tlvs.length, 14);
  return Buffer.concat([head, addresses, tlvs]);
}

function tlv(type: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value as string, 'latin1');
  return Buffer.concat([Buffer.of(type, bytes.length >> 8, bytes.length & 0xff), bytes]);
}

const IPV4 = Buffer.from('cb007109c63364010f1201bb', 'hex');
const IPV6 = Buffer.from('20010db8000000000000000000000007fe800000000000000000000000000001d43101bb', 'hex');
const unixAddresses = (path: string): Buffer =>
  Buffer.concat([Buffer.from(path.padEnd(108, '\0'), 'latin1'), Buffer.alloc(108)]);
const TLVS = Buffer.concat([
  tlv(1, 'h2'),
  tlv(2, 'shop.example'),
  tlv(3, Buffer.alloc(4)),
  tlv(4, ''),
  tlv(5, 'id'.repeat(64)),
  tlv(
    0x20,
    Buffer.concat([Buffer.from('0100000000', 'hex'), tlv(0x21, 'TLSv1.3'), tlv(0x22, 'GET / HTTP/1.1\r\n\r\n')]),
  ),
  tlv(0x30, 'netns'),
  tlv(0xe0, Buffer.alloc(400, 0x0a)),
]);

/** Header and the client that it names, as relayed() says it. */
const HEADERS: Readonly<Record<string, readonly [Buffer, string]>> = {
  'v1 TCP4': [Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 3858 443\r\n'), '203.0.113.9 3858'],
  'v1 TCP6': [Buffer.from('PROXY TCP6 2001:DB8:0:0::7 fe80::1 54321 443\r\n'), '2001:db8::7 54321'],
  'v1 TCP6 with an IPv4 tail': [Buffer.from('PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n'), '203.0.113.9 1'],
  'v1 UNKNOWN': [Buffer.from('PROXY UNKNOWN\r\n'), '-'],
  'v1 UNKNOWN with addresses': [
    Buffer.from(`PROXY UNKNOWN ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`),
    '-',
  ],
  'v2 TCP over IPv4': [v2(1, 0x11, IPV4), '203.0.113.9 3858'],
  'v2 UDP over IPv4': [v2(1, 0x12, IPV4), '203.0.113.9 3858'],
  'v2 TCP over IPv6': [v2(1, 0x21, IPV6), '2001:db8::7 54321'],
  'v2 with TLVs': [v2(1, 0x11, IPV4, TLVS), '203.0.113.9 3858'],
  'v2 longer than 536': [v2(1, 0x21, IPV6, tlv(0xe1, 'x'.repeat(3000))), '2001:db8::7 54321'],
  'v2 Unix': [v2(1, 0x31, unixAddresses('/run/app.sock')), '/run/app.sock 0'],
  'v2 Unix without a name': [v2(1, 0x31, unixAddresses('')), '-'],
  'v2 LOCAL': [v2(0, 0, Buffer.alloc(0)), '-'],
  'v2 LOCAL with a block to skip': [v2(0, 0x11, IPV4, tlv(3, Buffer.alloc(4))), '-'],
  'v2 AF_UNSPEC': [v2(1, 0, Buffer.from('\0GET / HTTP/1.1\r\n\r\n')), '-'],
  'v2 of a family that is not known': [v2(1, 0x41, IPV6), '-'],
  'v2 with too few bytes for its addresses': [v2(1, 0x11, IPV4.subarray(0, 8)), '-'],
  'two in a row': [
    Buffer.concat([
      v2(1, 0x11, Buffer.from('0a0000010a00000203e80050', 'hex')),
      Buffer.from('PROXY TCP4 203.0.113.9 10.0.0.1 7 8\r\n'),
    ]),
    '203.0.113.9 7',
  ],
  'two in a row, the second without a client': [
    Buffer.concat([v2(1, 0x11, IPV4), Buffer.from('PROXY UNKNOWN\r\n')]),
    '203.0.113.9 3858',
  ],
};

const HTTP: Talk = [
  ['C', 'GET /a HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['S', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'],
  ['C', 'GET /b HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['S', 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'],
];
const script = new Script();
script.c(script.ask(1, http2.request('/h2'))).s(script.answer(1, http2.response(200)));
const HTTP2: Talk = script.steps.map((step) =>
  step.kind === 'data' ? [step.direction === FROM_CLIENT ? 'C' : 'S', step.bytes] : assert.fail(),
);
const POSTGRES: Talk = [
  ['C', c.startup()],
  ['S', Buffer.concat([...welcome])],
  ['C', c.query('SELECT 1')],
  ['S', Buffer.concat([s.rowDescription('x'), s.row('1'), s.complete('SELECT 1'), s.ready()])],
];
const MYSQL: Talk = session([
  ['C', query('SELECT a FROM t')],
  ['S', result()],
  ['C', query('DO 1')],
  ['S', ok(1)],
]);

const TALKS: Readonly<Record<string, readonly [Talk, (client: string) => string[]]>> = {
  'HTTP/1': [HTTP, (client) => [`http GET /a 200 ${client}`, `http GET /b 404 ${client}`]],
  'HTTP/2': [HTTP2, (client) => [`http GET /h2 200 ${client}`]],
  PostgreSQL: [POSTGRES, (client) => [`postgresql SELECT ? ${client}`]],
  MySQL: [MYSQL, (client) => [`mysql SELECT a FROM t ${client}`, `mysql DO ? ${client}`]],
};

describe('a PROXY header', () => {
  for (const [name, [header, client]] of Object.entries(HEADERS)) {
    for (const [protocol, [talk, expected]] of Object.entries(TALKS)) {
      test(`${name}, before ${protocol}, however it is cut`, () => {
        for (const arranged of arrangements(header, talk, 3)) {
          const { said, counters } = converse(arranged);
          assert.deepEqual(said, expected(client));
          assert.deepEqual(
            [counters.connections.unrecognised, counters.incomplete, counters.parseErrors],
            [{}, {}, {}],
          );
        }
      });
    }
  }

  test('outside of TLS, and inside of it', async () => {
    const header = 'PROXY TCP4 203.0.113.9 198.51.100.1 3858 443\r\n';
    const recording = await recordNode({
      dialogue: async (client, server) => {
        await client.say(`${header}GET /inside HTTP/1.1\r\nHost: x\r\n\r\n`);
        await server.say('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
        await client.say('GET /again HTTP/1.1\r\nHost: x\r\n\r\n');
        await server.say('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
      },
    });
    const talk: Talk = recording.chunks.map(({ direction, bytes }) => [direction === FROM_CLIENT ? 'C' : 'S', bytes]);
    const { keyLog } = recording;
    const expected = ['http GET /inside 200 203.0.113.9 3858', 'http GET /again 200 203.0.113.9 3858'];
    const inside = converse(talk, { keyLog });
    assert.deepEqual(inside.said, expected);
    assert.equal(inside.counters.connections.decrypted, 1);
    // The one inside was written farther from here.
    const outer = v2(1, 0x21, IPV6, TLVS);
    for (const arranged of arrangements(outer, talk, 3))
      assert.deepEqual(converse(arranged, { keyLog }).said, expected);
  });

  test('with a hole in it, wherever it lies: what follows is read again', () => {
    for (const [name, [header]] of Object.entries(HEADERS)) {
      if (name === 'v2 AF_UNSPEC') continue; // a request stands in it
      for (let from = 0; from < header.length; from += name.includes('longer') ? 37 : 1) {
        const talk: Talk = [
          ['C', header.subarray(0, from)],
          ['hole', header.subarray(from, from + 9)],
          ['C', header.subarray(from + 9)],
          ...HTTP,
        ];
        const { said, counters } = converse(talk.filter(([, bytes]) => bytes.length > 0));
        const seen = said.map((line) => line.split(' ', 4).join(' '));
        // What is left of the header may stand where the first request is looked for.
        assert.equal(seen.at(-1), 'http GET /b 404', `${name} ${from}`);
        assert.deepEqual(counters.connections.unrecognised, {});
      }
    }
    // The bytes that are passed over need not be seen.
    const [header] = HEADERS['v2 with TLVs']!;
    const talk: Talk = [['C', header.subarray(0, 100)], ['hole', header.subarray(100)], ...HTTP];
    assert.deepEqual(converse(talk).said, ['http GET /a 200 203.0.113.9 3858', 'http GET /b 404 203.0.113.9 3858']);
  });

  test('alone on its connection is nothing at all', () => {
    for (const [header] of Object.values(HEADERS)) {
      const { said, counters } = converse([['C', header]]);
      assert.deepEqual([said, counters.connections.unrecognised], [[], {}]);
    }
  });

  test('of a connection whose start was not seen, also from the end taken for the server', () => {
    const header = Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 3858 443\r\n');
    const swap: Talk = HTTP.map(([who, bytes]) => [who === 'C' ? 'S' : 'C', bytes]);
    for (const [talk, who] of [
      [HTTP, 'C'],
      [swap, 'S'],
    ] as const) {
      const { said, swapped } = converse([[who, header], ...talk], { startSeen: false });
      assert.deepEqual(said, ['http GET /a 200 203.0.113.9 3858', 'http GET /b 404 203.0.113.9 3858']);
      assert.equal(swapped, who === 'S');
    }
  });
});

describe('what is no PROXY header', () => {
  const get: Talk = HTTP.slice(1);
  const first = Buffer.from(HTTP[0]![1] as string);

  test('other versions, and lines that break off, are counted by a reason of their own', () => {
    for (const [header, reason] of [
      [v2(1, 0x11, IPV4, Buffer.alloc(0), 1), 'proxy_version'],
      [v2(1, 0x11, IPV4, Buffer.alloc(0), 3), 'proxy_version'],
      [Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 3858\r\n'), 'proxy_malformed'],
      [Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 3858 65536\r\n'), 'proxy_malformed'],
      [Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 3858 443 1\r\n'), 'proxy_malformed'],
      [Buffer.from('PROXY TCP4 2001:db8::7 198.51.100.1 3858 443\r\n'), 'proxy_malformed'],
      [Buffer.from('PROXY TCP6 203.0.113.9 ::1 3858 443\r\n'), 'proxy_malformed'],
      [Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 3858 443\n'), 'proxy_malformed'],
      [Buffer.from(`PROXY UNKNOWN ${'x'.repeat(200)}\r\n`), 'proxy_malformed'],
    ] as const) {
      for (const arranged of arrangements(header, [['C', first], ...get], 3)) {
        const { said, counters } = converse(arranged);
        assert.deepEqual(said, [], header.toString());
        assert.deepEqual(counters.connections.unrecognised, { [reason]: 1 });
      }
    }
  });

  test('a method of that name, empty lines before a request, and requests that begin alike are HTTP', () => {
    for (const [line, expected] of [
      ['PROXY /x HTTP/1.1', 'PROXY /x'],
      ['POST /x HTTP/1.1', 'POST /x'],
      ['PROPFIND /x HTTP/1.1', 'PROPFIND /x'],
      ['PROXYING /x HTTP/1.1', 'PROXYING /x'],
      ['\r\n\r\nGET /x HTTP/1.1', 'GET /x'],
      ['\r\nGET /x HTTP/1.1', 'GET /x'],
    ] as const) {
      const request = Buffer.from(`${line}\r\nHost: x\r\n\r\n`);
      for (let cut = 0; cut < request.length; cut++) {
        const { said } = converse([['C', request.subarray(0, cut)], ['C', request.subarray(cut)], HTTP[1]!]);
        assert.deepEqual(said, [`http ${expected} 200 -`]);
      }
    }
  });

  test('more headers in a row than the limit allows are read as what follows', () => {
    const header = Buffer.from('PROXY UNKNOWN\r\n');
    const headers = Array<Buffer>(defaultAllLimits.proxyHeaders + 1).fill(header);
    const { said, counters } = converse([['C', Buffer.concat(headers)], ...HTTP]);
    assert.deepEqual([said, counters.connections.unrecognised], [[], { no_match: 1 }]);
    assert.equal(converse([['C', Buffer.concat(headers.slice(1))], ...HTTP]).said.length, 2);
  });

  test('a header that breaks off with its connection counts as what it was', () => {
    const { counters } = converse([['C', 'PROXY TCP4 203.0.113.9 ']]);
    assert.deepEqual(counters.connections.unrecognised, { closed: 1 });
  });
});
