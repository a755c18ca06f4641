import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Direction, FROM_CLIENT, FROM_SERVER, type Layer, type TlsInfo } from '../../../src/flow/connection.ts';
import { createDetectLayer } from '../../../src/protocol/detect.ts';
import type { LayerContext } from '../../../src/protocol/layer.ts';
import { createPostgresProtocol } from '../../../src/protocol/postgres/protocol.ts';
import { optionOf } from '../../../src/protocol/postgres/startup.ts';
import type { AllLimits } from '../../../src/protocol/registry.ts';
import { detectTls } from '../../../src/tls/detect.ts';
import { newConnection, type Step } from '../../support/protocols/cases.ts';
import {
  type BenchOptions,
  c,
  int32,
  newAnalyser,
  PostgresBench,
  packet,
  type Segment,
  s,
  started,
  steps,
  string,
  welcome,
} from '../../support/protocols/postgres.ts';

const QUERY: readonly Segment[] = [
  ['C', c.query('SELECT 1')],
  ['S', s.rowDescription('x'), s.row('1'), s.complete('SELECT 1'), s.ready()],
];
const LINE = 'SELECT ? -> ok 1/-1';
const CLIENT_HELLO = Buffer.concat([Buffer.from('160301', 'hex'), Buffer.from('0005', 'hex'), Buffer.from('client')]);

/** A TLS layer that takes what it gets for its own plaintext, but for records that begin with 0x16. */
function fakeTls(): { options: BenchOptions; seen: string[] } {
  const seen: string[] = [];
  const startTls = (next: (context: LayerContext<AllLimits>) => Layer): Layer => {
    const inner = new PostgresBench({}, next).layer;
    return {
      data(direction, bytes, start, end, timeUs, firstUs) {
        seen.push(`${direction} ${bytes.toString('latin1', start, end).slice(0, 1)}`);
        if (bytes[start] !== 0x16) inner.data(direction, bytes, start, end, timeUs, firstUs);
      },
      gap: (direction, length) => seen.push(`${direction} gap ${length}`),
      end: (direction) => seen.push(`${direction} end`),
      close: (reason, timeUs) => inner.close(reason, timeUs),
      tick: () => seen.push('tick'),
    };
  };
  return { options: { startTls }, seen };
}

function bytewise(segments: readonly Segment[]): Step[] {
  return steps(segments).flatMap((step): Step[] =>
    step.kind === 'data' ? Array.from(step.bytes, (byte) => ({ ...step, bytes: Buffer.from([byte]) })) : [step],
  );
}

function bothWays(segments: readonly Segment[], check: (bench: PostgresBench) => void): void {
  check(new PostgresBench().run(steps(segments)).close());
  check(new PostgresBench().run(bytewise(segments)).close());
}

describe('postgres: how a connection begins', () => {
  const exchanges: Readonly<Record<string, readonly Segment[]>> = {
    'no password': [],
    'a password in clear': [
      ['S', s.authentication(3)],
      ['C', c.password('secret')],
    ],
    MD5: [
      ['S', s.authentication(5, int32(99))],
      ['C', c.password('md5secret')],
    ],
    'SCRAM-SHA-256': [
      ['S', s.authentication(10, string('SCRAM-SHA-256'), Buffer.of(0))],
      ['C', c.password('SCRAM-SHA-256\0\0\0\0\x08n,,n=,r=secret')],
      ['S', s.authentication(11, Buffer.from('r=secret,s=x,i=4096'))],
      ['C', c.password('c=biws,r=secret,p=secret')],
      ['S', s.authentication(12, Buffer.from('v=secret'))],
    ],
    GSSAPI: [
      ['S', s.authentication(7)],
      ['C', c.password('ticket')],
      ['S', s.authentication(8, Buffer.from('more'))],
      ['C', c.password('ticket')],
    ],
  };
  for (const [name, segments] of Object.entries(exchanges)) {
    test(`${name}: passed over`, () => {
      const all: Segment[] = [['C', c.startup()], ...segments, ['S', ...welcome], ...QUERY];
      bothWays(all, (bench) => {
        assert.deepEqual(bench.lines, [LINE]);
        assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{}, {}]);
        assert.ok(!JSON.stringify(bench.exchanges).includes('secret'));
      });
    });
  }

  test('protocol 3.2, an option that is refused, a key of 32 bytes', () => {
    const startup = c.startup({ user: 'u', database: 'db', '_pq_.x': 'y' }, 0x30002);
    const key = Buffer.concat([Buffer.from('K'), int32(4 + 4 + 32), int32(1), Buffer.alloc(32)]);
    bothWays([['C', startup], ['S', s.negotiate, s.ok, key, s.ready()], ...QUERY], (bench) => {
      assert.deepEqual(bench.lines, [LINE]);
      assert.equal(bench.exchanges[0]?.traceOffset, startup.length);
    });
  });

  test('the login is refused', () => {
    const bench = new PostgresBench()
      .run(
        steps([
          ['C', c.startup()],
          ['S', s.error('28P01', 'FATAL')],
        ]),
      )
      .close();
    assert.deepEqual([bench.lines, bench.counters.parseErrors, bench.counters.incomplete], [[], {}, {}]);
  });

  test('a query that is sent with the StartupMessage', () => {
    bothWays([['C', c.startup(), c.query('SELECT 1')], ['S', ...welcome], QUERY[1]!], (bench) => {
      assert.deepEqual(bench.lines, [LINE]);
    });
  });

  test('encryption refused, by byte and by error', () => {
    const refused: Segment[] = [
      ['C', c.gssencRequest],
      ['S', Buffer.from('N')],
      ['C', c.sslRequest],
      ['S', Buffer.from('N')],
    ];
    bothWays([...refused, ...started, ...QUERY], (bench) => {
      assert.deepEqual([bench.lines, bench.counters.parseErrors], [[LINE], {}]);
      assert.equal(bench.exchanges[0]?.traceOffset, 16 + c.startup().length);
    });
    const old = new PostgresBench()
      .run(
        steps([
          ['C', c.sslRequest],
          ['S', s.error('08P01', 'FATAL')],
        ]),
      )
      .close();
    assert.deepEqual([old.lines, old.counters.parseErrors], [[], {}]);
  });

  test('the answer to the request for encryption is seen late', () => {
    const bench = new PostgresBench();
    bench.run(steps([['C', c.sslRequest], ['C', c.startup()], ['S', Buffer.from('N'), ...welcome], ...QUERY])).close();
    assert.deepEqual([bench.lines, bench.counters.parseErrors], [[LINE], {}]);
  });

  test('TLS within the connection', () => {
    for (const late of [false, true]) {
      const { options, seen } = fakeTls();
      const bench = new PostgresBench(options);
      const hello: Segment = ['C', CLIENT_HELLO];
      const answer: Segment = ['S', Buffer.from('S')];
      bench.run(steps([['C', c.sslRequest], ...(late ? [hello, answer] : [answer, hello]), ...started, ...QUERY]));
      bench.layer.gap(FROM_SERVER, 7, 50);
      bench.layer.tick?.(51);
      bench.layer.end(FROM_CLIENT, 'fin', 52);
      bench.close();
      assert.deepEqual(seen, ['0 \x16', '0 \0', '1 R', '0 Q', '1 T', '1 gap 7', 'tick', '0 end'], `late: ${late}`);
      assert.deepEqual(bench.counters.parseErrors, {});
    }
  });

  test('the answer was lost: the client’s next bytes show that it was TLS', () => {
    const { options, seen } = fakeTls();
    const bench = new PostgresBench(options).run(steps([['C', c.sslRequest]]));
    bench.layer.gap(FROM_SERVER, 1, 5);
    bench.run(steps([['C', CLIENT_HELLO]], 6));
    assert.deepEqual(seen, ['0 \x16']);
  });

  test('TLS where there can be none ends the connection', () => {
    const bench = new PostgresBench().run(
      steps([
        ['C', c.sslRequest],
        ['S', Buffer.from('S')],
      ]),
    );
    assert.equal(bench.muted, 1);
  });

  test('GSSAPI encryption is opaque, and counted', () => {
    const bench = new PostgresBench().run(
      steps([
        ['C', c.gssencRequest],
        ['S', Buffer.from('G')],
        ['C', Buffer.from('\0\0\0\x10token')],
      ]),
    );
    assert.equal(bench.muted, 1);
    assert.deepEqual(bench.close().counters.connections.opaque, { postgresql_gss: 1 });
    assert.deepEqual(bench.counters.parseErrors, {});
  });

  test('a CancelRequest has its own connection, and is no exchange', () => {
    for (const request of [c.cancelRequest, packet(80_877_102, int32(1), Buffer.alloc(32))]) {
      bothWays([['C', request]], (bench) => {
        assert.deepEqual(bench.counters.connections.opaque, { postgresql_cancel: 1 });
        assert.deepEqual([bench.lines, bench.muted, bench.counters.parseErrors], [[], 1, {}]);
      });
    }
  });

  test('what is no packet ends the connection, counted', () => {
    for (const wrong of [
      packet(0x20000, string('x')),
      packet(0x30000, Buffer.alloc(10_001)),
      Buffer.from('GET / HTTP'),
    ]) {
      const bench = new PostgresBench().run(steps([['C', wrong], ...QUERY])).close();
      assert.deepEqual([bench.lines, bench.muted, bench.counters.parseErrors], [[], 1, { postgresql: 1 }]);
    }
  });

  test('a connection of physical replication is opaque as a whole, one of logical replication takes statements', () => {
    for (const [replication, opaque] of [
      ['true', { postgresql_replication: 1 }],
      ['on', { postgresql_replication: 1 }],
      ['database', {}],
      ['false', {}],
    ] as const) {
      const [, ...answers] = started;
      const bench = new PostgresBench().run(
        steps([['C', c.startup({ user: 'u', database: 'db', replication })], ...answers, ...QUERY]),
      );
      bench.close();
      assert.deepEqual(bench.counters.connections.opaque, opaque);
      assert.equal(bench.exchanges.length, 'postgresql_replication' in opaque ? 0 : 1);
    }
  });

  test('a replication stream is opaque from its beginning', () => {
    const bench = new PostgresBench().run(
      steps([
        ...started,
        ['C', c.query('START_REPLICATION SLOT "s" LOGICAL 0/0')],
        ['S', s.copyBoth],
        ['S', s.copyData('wsecret')],
        ['C', c.copyData('r')],
      ]),
    );
    assert.equal(bench.muted, 1);
    bench.close();
    assert.equal(bench.exchanges.length, 1);
    assert.equal(bench.exchanges[0]?.incomplete, undefined);
    assert.deepEqual(bench.counters.connections.opaque, { postgresql_replication: 1 });
  });
});

describe('postgres: the namespace', () => {
  const namespaces = (segments: readonly Segment[]): string[] =>
    new PostgresBench()
      .run(steps(segments))
      .close()
      .exchanges.map((e) => e.namespace);
  const begin = (parameters: Record<string, string>, ...statuses: Buffer[]): Segment[] => [
    ['C', c.startup(parameters)],
    ['S', s.ok, ...statuses, s.ready()],
  ];
  const run = (text: string, tags: readonly string[], state: 'I' | 'T' | 'E' = 'I'): Segment[] => [
    ['C', c.query(text)],
    ['S', ...tags.map((tag) => (tag.length === 5 && /\d/.test(tag) ? s.error(tag) : s.complete(tag))), s.ready(state)],
  ];

  test('the database, or the user whose name it bears', () => {
    assert.deepEqual(namespaces([...begin({ user: 'u', database: 'db' }), ...QUERY]), ['db']);
    assert.deepEqual(namespaces([...begin({ user: 'u' }), ...QUERY]), ['u']);
  });

  test('the search path of the start', () => {
    const of = (parameters: Record<string, string>, ...statuses: Buffer[]): string[] =>
      namespaces([...begin({ user: 'u', database: 'db', ...parameters }, ...statuses), ...QUERY]);
    assert.deepEqual(of({ options: '-c search_path=app,public' }), ['db|app']);
    assert.deepEqual(of({ options: '-c geqo=off --search-path="My\\ App"' }), ['db|My App']);
    assert.deepEqual(of({ search_path: 'app' }), ['db|app']);
    assert.deepEqual(of({}, s.status('search_path', '"$user", public')), ['db|public']);
    assert.deepEqual(of({ options: '-c search_path=app' }, s.status('search_path', 'App2, x')), ['db|app2']);
  });

  test('SET, as far as it holds', () => {
    const at = begin({ user: 'u', database: 'db', options: '-csearch_path=start' });
    const set = (...segments: Segment[][]): string[] => namespaces([...at, ...segments.flat(), ...QUERY]);
    assert.deepEqual(set(run('SET search_path TO app', ['SET'])), ['db|start', 'db|app']);
    assert.deepEqual(set(run('SET search_path TO app; SELECT 1', ['SET', 'SELECT 1'])), [
      'db|start',
      'db|app',
      'db|app',
    ]);
    assert.deepEqual(set(run('SET search_path TO app; SELECT 1', ['SET', '22012'])), [
      'db|start',
      'db|app',
      'db|start',
    ]);
    assert.deepEqual(set(run('SET search_path TO app', ['42601'])), ['db|start', 'db|start']);
    assert.deepEqual(
      set(run('SET search_path TO app', ['SET']), run('RESET search_path', ['RESET'])).at(-1),
      'db|start',
    );
    const begun = run('BEGIN', ['BEGIN'], 'T');
    const inside = run('SET search_path TO app', ['SET'], 'T');
    const one = run('SELECT 1', ['SELECT 1'], 'T');
    assert.deepEqual(set(begun, inside, one, run('COMMIT', ['COMMIT'])).slice(2), ['db|app', 'db|app', 'db|app']);
    assert.deepEqual(set(begun, inside, one, run('ROLLBACK', ['ROLLBACK'])).slice(2), ['db|app', 'db|app', 'db|start']);
    const failed = run('SELECT 1/0', ['22012'], 'E');
    assert.deepEqual(set(begun, inside, failed, run('COMMIT', ['ROLLBACK'])).at(-1), 'db|start');
    const local = run('SET LOCAL search_path TO app', ['SET'], 'T');
    assert.deepEqual(set(begun, local, one, run('COMMIT', ['COMMIT'])).slice(2), ['db|app', 'db|app', 'db|start']);
    const back = run('ROLLBACK TO SAVEPOINT a', ['ROLLBACK'], 'T');
    assert.deepEqual(set(begun, inside, back, one).slice(2), ['db|app', 'db', 'db']);
  });

  test('the transaction in which a statement began', () => {
    const bench = new PostgresBench().run(
      steps([
        ...begin({ user: 'u' }),
        ...run('BEGIN; SELECT 1; COMMIT; SELECT 2', ['BEGIN', 'SELECT 1', 'COMMIT', 'SELECT 1']),
        ...run('START TRANSACTION', ['START TRANSACTION'], 'T'),
        ...run('SELECT 1/0', ['22012'], 'E'),
        ...run('SELECT 1', ['25P02'], 'E'),
        ...run('ROLLBACK', ['ROLLBACK']),
        ...run('SELECT 1', ['SELECT 1']),
      ]),
    );
    assert.deepEqual(
      bench.exchanges.map((e) => e.transaction),
      ['idle', 'active', 'active', 'idle', 'idle', 'active', 'failed', 'failed', 'idle'],
    );
  });

  test('no text leaves in an encoding whose characters may contain quotes', () => {
    const quoted = Buffer.concat([Buffer.from("SELECT '\x95\\', 'secret'", 'latin1'), Buffer.of(0)]);
    const query = Buffer.concat([Buffer.from('Q'), int32(quoted.length + 4), quoted]);
    for (const encoding of ['SJIS', 'big5', 'GB18030', 'Shift_JIS_2004']) {
      const bench = new PostgresBench();
      bench.run(
        steps([
          ...begin({ user: 'u', client_encoding: encoding }),
          ['C', query],
          ['S', s.complete('SELECT 1'), s.ready()],
        ]),
      );
      assert.equal(bench.exchanges[0]?.statement?.text, '', encoding);
      assert.equal(bench.exchanges[0]?.statement?.operation, 'SELECT');
    }
  });

  test('options: words, escapes, long names', () => {
    assert.equal(optionOf('-c a=1 -c b=2 --b=3', 'b'), '3');
    assert.equal(optionOf('-cb=x\\ y', 'b'), 'x y');
    assert.equal(optionOf('--search-path=x', 'search_path'), 'x');
    assert.equal(optionOf('-c', 'b'), undefined);
    assert.equal(optionOf('', 'b'), undefined);
  });
});

describe('postgres: recognised', () => {
  const protocol = createPostgresProtocol(newAnalyser());
  const says = (direction: Direction, bytes: Buffer, startSeen: boolean): string =>
    protocol.detect(direction, bytes, 0, bytes.length, newConnection(startSeen));

  test('by the first packet, and by each beginning of it', () => {
    for (const first of [c.startup(), c.sslRequest, c.gssencRequest, c.cancelRequest]) {
      assert.equal(says(FROM_CLIENT, first, true), 'yes');
      for (let n = 1; n < first.length; n++) {
        const verdict = says(FROM_CLIENT, first.subarray(0, n), true);
        assert.notEqual(verdict, 'no', `${first.toString('hex')} ${n}`);
        if (n < 8) assert.equal(verdict, 'maybe');
      }
    }
  });

  test('in mid-connection, by whole messages', () => {
    const client = [c.query('SELECT 1'), Buffer.concat([c.parse('', 'SELECT 1'), c.bind('', ''), c.execute(), c.sync])];
    client.push(Buffer.concat([c.bind('', 'n', 'x', null), c.describe('P'), c.execute(), c.sync]));
    for (const bytes of client) assert.equal(says(FROM_CLIENT, bytes, false), 'yes');
    const answer = [
      s.parseComplete,
      s.bindComplete,
      s.rowDescription('a', 'b'),
      s.row('1', null),
      s.complete('SELECT 1'),
      s.ready(),
    ];
    assert.equal(says(FROM_SERVER, Buffer.concat(answer), false), 'yes');
    assert.equal(says(FROM_SERVER, Buffer.concat([s.error('42601'), s.ready('E')]), false), 'yes');
    assert.equal(says(FROM_SERVER, Buffer.concat(answer.slice(0, 4)), false), 'maybe');
  });

  test('nothing else is taken for it', () => {
    const others: Record<string, Buffer> = {
      http: Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
      post: Buffer.from('POST /a HTTP/1.1\r\n\r\n'),
      put: Buffer.from('PUT /a HTTP/1.1\r\n\r\n'),
      delete: Buffer.from('DELETE /a HTTP/1.1\r\n\r\n'),
      connect: Buffer.from('CONNECT a:1 HTTP/1.1\r\n\r\n'),
      answer: Buffer.from('HTTP/1.1 200 OK\r\n\r\n'),
      http2: Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      tls: Buffer.concat([Buffer.from('1603010200010001fc0303', 'hex'), Buffer.alloc(100, 7)]),
      ssh: Buffer.from('SSH-2.0-OpenSSH_9.2p1\r\n'),
      smtp: Buffer.from('220 mail.example.org ESMTP\r\n'),
      redis: Buffer.from('*1\r\n$4\r\nPING\r\n'),
      memcached: Buffer.from('END\r\n'),
      greeting: Buffer.concat([Buffer.from([0x53, 0, 0, 0, 0x0a]), Buffer.from('8.0.36\0'), Buffer.alloc(70, 1)]),
      mysqlQuery: Buffer.concat([Buffer.from([0x09, 0, 0, 0, 3]), Buffer.from('SELECT 1')]),
      mysqlLogin: Buffer.concat([Buffer.from([0x54, 0, 0, 1, 0x8d, 0xa6]), Buffer.alloc(80, 2)]),
      kafka: Buffer.concat([
        Buffer.from('0000002b0003000c00000001000e', 'hex'),
        Buffer.from('consumer-client'),
        Buffer.alloc(20),
      ]),
      mongo: Buffer.concat([Buffer.from('3a000000010000000000000 0'.replace(' ', ''), 'hex'), Buffer.alloc(50, 3)]),
      amqp: Buffer.from('AMQP\0\0\x09\x01'),
      zero: Buffer.alloc(64),
    };
    for (const [name, bytes] of Object.entries(others)) {
      for (const direction of [FROM_CLIENT, FROM_SERVER] as const) {
        for (const startSeen of [true, false]) {
          assert.equal(says(direction, bytes, startSeen), 'no', `${name} ${direction} ${startSeen}`);
        }
      }
    }
  });

  test('through the detector: from the start, joined, with the ends taken for each other, by ALPN', () => {
    const detect = (context: LayerContext): Layer =>
      createDetectLayer(context, [{ name: 'tls', detect: detectTls, create: () => assert.fail() }, protocol]);
    const whole = new PostgresBench({}, detect).run(steps([...started, ...QUERY])).close();
    assert.deepEqual(whole.lines, [LINE]);
    const bytes = new PostgresBench({}, detect).run(bytewise([...started, ...QUERY])).close();
    assert.deepEqual(bytes.lines, [LINE]);
    const joined = new PostgresBench({ startSeen: false }, detect).run(steps(QUERY)).close();
    assert.deepEqual(joined.lines, [LINE]);
    const info: TlsInfo = {
      version: '1.3',
      cipherSuite: '',
      serverName: undefined,
      alpn: 'postgresql',
      clientRandom: undefined,
    };
    const direct = new PostgresBench({ connection: { tls: info } }, detect).run(steps([...started, ...QUERY])).close();
    assert.deepEqual(direct.lines, [LINE]);
  });
});
