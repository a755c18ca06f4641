import assert from 'node:assert/strict';
import { describe as suite, test } from 'node:test';
import { type EndReason, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import {
  BINARY,
  beginsFrame,
  CLOSE,
  CONTINUATION,
  FrameHeader,
  MAX_HEADER_BYTES,
  PING,
  PONG,
  readHeader,
  TEXT,
} from '../../../src/protocol/websocket/frames.ts';
import { createWebSocketLayer, type WebSocketLayer } from '../../../src/protocol/websocket/layer.ts';
import { Bench, type Step } from '../../support/protocols/cases.ts';
import {
  ANSWER,
  c,
  close,
  code,
  fin,
  fromClient,
  fromServer,
  gap,
  REQUEST,
  run,
  s,
} from '../../support/protocols/websocket.ts';
import { exchange as httpExchange } from '../../support/spans/fixtures.ts';

const HANDSHAKE = 'GET /chat?room=7 1.1 -> 101 in=0 out=0 at=0 times=1,1,2,2 host=chat.example |';
const hello = fromClient(TEXT, 'hello');
const world = fromServer(TEXT, 'world!');
const goodbye = fromClient(CLOSE, code(1000, 'done'));
const farewell = fromServer(CLOSE, code(1000));
const last = 'client 1/5 server 1/6';

interface Case {
  name: string;
  client?: readonly Buffer[];
  server?: readonly Buffer[];
  expected: string;
}

/** The bytes of each end, which is closed in order, and what becomes of them. */
const cases: readonly Case[] = [
  { name: 'a message each', client: [hello, goodbye], server: [world, farewell], expected: `${last} 1000 client` },
  {
    name: 'empty messages',
    client: [fromClient(TEXT), fromClient(BINARY), goodbye],
    server: [fromServer(BINARY), farewell],
    expected: 'client 2/0 server 1/0 1000 client',
  },
  {
    name: 'lengths of 7, 16 and 64 bits, and those between them',
    client: [...[125, 126, 65_535, 65_536].map((n) => fromClient(BINARY, Buffer.alloc(n, n))), goodbye],
    server: [...[125, 126, 127].map((n) => fromServer(BINARY, Buffer.alloc(n))), farewell],
    expected: 'client 4/131322 server 3/378 1000 client',
  },
  {
    name: 'fragments, with control frames between them',
    client: [
      fromClient(TEXT, 'ab', { fin: false }),
      fromClient(PING, 'are you there'),
      fromClient(CONTINUATION, '', { fin: false }),
      fromClient(CONTINUATION, 'cde', { fin: false }),
      fromClient(PONG),
      fromClient(CONTINUATION, 'f'),
      hello,
      goodbye,
    ],
    server: [fromServer(PONG, 'are you there'), farewell],
    expected: 'client 2/11 server 0/0 1000 client',
  },
  {
    name: 'compressed messages count as they are',
    client: [
      fromClient(TEXT, Buffer.from([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), { rsv1: true }),
      fromClient(TEXT, Buffer.from([0xf2, 0x48]), { rsv1: true, fin: false }),
      fromClient(CONTINUATION, Buffer.from([0xcd])),
      goodbye,
    ],
    server: [farewell],
    expected: 'client 2/10 server 0/0 1000 client compressed',
  },
  {
    name: 'a length that is longer than it needs to be',
    client: [fromClient(TEXT, 'hello', { extended: 8 }), goodbye],
    server: [fromServer(TEXT, 'world!', { extended: 2 }), farewell],
    expected: `${last} 1000 client`,
  },
  {
    name: 'Close without a code',
    client: [fromClient(CLOSE)],
    server: [fromServer(CLOSE)],
    expected: 'client 0/0 server 0/0 1005 client',
  },
  {
    name: 'a code of which half is there is none',
    client: [fromClient(CLOSE, 'x')],
    server: [fromServer(CLOSE)],
    expected: 'client 0/0 server 0/0 1005 client',
  },
  {
    name: 'the mask of the code',
    client: [fromClient(CLOSE, code(4001, 'mine'), { key: [0, 0, 0, 0] })],
    server: [fromServer(CLOSE, code(4001))],
    expected: 'client 0/0 server 0/0 4001 client',
  },
  {
    name: 'what follows a Close frame is nothing',
    client: [goodbye, hello, Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    server: [world, farewell, world],
    expected: 'client 0/0 server 1/6 1000 client',
  },
  {
    name: 'a message that is not whole has bytes and is none',
    client: [fromClient(TEXT, 'abc', { fin: false }), goodbye],
    server: [farewell],
    expected: 'client 0/3 server 0/0 1000 client',
  },
  {
    name: 'a payload that looks like frames and requests',
    client: [fromClient(BINARY, Buffer.concat([goodbye, REQUEST, goodbye]), { key: [0, 0, 0, 0] }), goodbye],
    server: [fromServer(BINARY, Buffer.concat([farewell, ANSWER])), farewell],
    expected: `client 1/${REQUEST.length + 2 * goodbye.length} server 1/${ANSWER.length + farewell.length} 1000 client`,
  },
  { name: 'one Close frame', client: [hello, goodbye], server: [world], expected: `${last} 1000 client` },
  { name: 'none', client: [hello], server: [world], expected: `${last} 1006 client connection_closed` },
  {
    name: 'an end within a frame',
    client: [hello, hello.subarray(0, 8)],
    server: [world, world.subarray(0, 1)],
    expected: 'client 1/7 server 1/6 1006 client connection_closed',
  },
];

function inOrder(client: Buffer, server: Buffer, cut: (bytes: Buffer) => readonly Buffer[]): Step[] {
  return [
    ...cut(client).map((bytes) => c(bytes)),
    ...cut(server).map((bytes) => s(bytes)),
    ...[fin(FROM_CLIENT, 20), fin(FROM_SERVER, 21), close('fin', 22)],
  ];
}

/** Without the largest case, which has too many places. */
function cuts(length: number): number[] {
  return Array.from({ length: length - 1 }, (_, i) => i + 1).filter((at) => length < 2000 || at % 997 < 20);
}

suite('websocket', () => {
  for (const { name, client = [], server = [], expected } of cases) {
    const up = Buffer.concat(client);
    const down = Buffer.concat(server);
    test(name, () => {
      const check = (steps: readonly Step[], how: string): void => {
        const { bench, seen } = run(steps);
        assert.deepEqual([bench.emitted, seen], [[HANDSHAKE], [expected]], how);
        const incomplete = expected.endsWith('closed') ? { connection_closed: 1 } : {};
        const { exchanges, parseErrors } = bench.counters;
        assert.deepEqual([exchanges, parseErrors], [{ http: 1, websocket: 1 }, {}]);
        assert.deepEqual(bench.counters.incomplete, incomplete);
      };
      check(
        inOrder(up, down, (bytes) => [bytes]),
        'whole',
      );
      for (const at of cuts(Math.max(up.length, down.length))) {
        check(
          inOrder(up, down, (bytes) => [bytes.subarray(0, at), bytes.subarray(at)]),
          `cut at ${at}`,
        );
      }
      if (up.length < 2000) {
        check(
          inOrder(up, down, (bytes) => [...bytes].map((byte) => Buffer.from([byte]))),
          'byte by byte',
        );
      }
    });
  }

  test('frames in the segment of the 101, at every cut', () => {
    const down = Buffer.concat([ANSWER, world, farewell]);
    for (let at = 0; at <= down.length; at++) {
      const { bench, seen } = run(
        [c(REQUEST, 1), s(down.subarray(0, at), 2), s(down.subarray(at), 3), c(Buffer.concat([hello, goodbye]), 4)],
        {},
        false,
      );
      assert.deepEqual(seen, [`${last} 1000 server`], `cut at ${at}`);
      assert.equal(bench.emitted.length, 1);
      assert.equal(bench.muted, 1);
    }
  });

  test('times: from the end of the handshake to the second Close frame', () => {
    const { all, bench } = run([s(world, 10), c(goodbye, 20), s(farewell, 30), fin(FROM_SERVER, 40), close('fin', 50)]);
    assert.deepEqual([all[0]?.startUs, all[0]?.endUs], [2, 30]);
    assert.equal(all[0]?.handshake, bench.exchanges[0]);
  });

  test('times: without Close frames, to the last end of a direction', () => {
    const { all } = run([fin(FROM_SERVER, 40), fin(FROM_CLIENT, 50), close('fin', 60)]);
    assert.deepEqual([all[0]?.endUs, all[0]?.closedBy, all[0]?.closeCode], [50, 'server', 1006]);
    const half = run([fin(FROM_SERVER, 40), close('idle', 60)]).all[0];
    assert.deepEqual([half?.endUs, half?.closedBy, half?.incomplete], [40, 'server', 'connection_closed']);
  });

  test('all but a FIN says nothing of who closed it, in whatever order the directions are ended', () => {
    const ends: readonly (readonly [EndReason, string])[] = [
      ['reset', '1006  connection_reset'],
      ['shutdown', '0  shutdown'],
      ['idle', '0  timeout'],
      ['evicted', '0  limit'],
      ['unreadable', '0  gap'],
      ['reused', '1006  connection_closed'],
    ];
    for (const [reason, expected] of ends) {
      for (const first of [FROM_CLIENT, FROM_SERVER] as const) {
        const second = first === FROM_CLIENT ? FROM_SERVER : FROM_CLIENT;
        const closing: Step[] = [
          { kind: 'end', direction: first, reason, timeUs: 8 },
          { kind: 'end', direction: second, reason, timeUs: 8 },
          { kind: 'close', reason, timeUs: 8 },
        ];
        assert.deepEqual(run([c(hello), s(world), ...closing]).seen, [`${last} ${expected}`]);
        // A Close frame says it.
        assert.deepEqual(run([c(hello), s(world), s(farewell), ...closing]).seen, [`${last} 1000 server`]);
      }
    }
  });

  test('a direction that was lost may have closed it first', () => {
    const noise = Buffer.alloc(50, 0x7f);
    for (const [steps, expected] of [
      [[gap(FROM_CLIENT, 9), c(noise), s(farewell), close('fin')], 'client 0/0 server 0/0 1000  gap'],
      [[s(farewell), gap(FROM_CLIENT, 9), close('fin')], 'client 0/0 server 0/0 1000  gap'],
      [[gap(FROM_SERVER, 9), c(goodbye), close('fin')], 'client 0/0 server 0/0 1000  gap'],
      [[gap(FROM_CLIENT, 9), c(hello), s(farewell), close('fin')], 'client 1/5 server 0/0 1000 server gap'],
      [[c(fromClient(3)), s(farewell), close('fin')], 'client 0/0 server 0/0 1000  protocol_error'],
      [[gap(FROM_CLIENT, 9), fin(FROM_SERVER), close('fin')], 'client 0/0 server 0/0 0  gap'],
    ] as const)
      assert.deepEqual(run([...steps]).seen, [expected]);
  });

  test('a reset, an end by the observer', () => {
    assert.deepEqual(run([c(hello), close('reset')]).seen, ['client 1/5 server 0/0 1006  connection_reset']);
    assert.deepEqual(run([c(goodbye), close('reset')]).seen, ['client 0/0 server 0/0 1000 client']);
    assert.deepEqual(run([c(hello), close('shutdown')]).seen, ['client 1/5 server 0/0 0  shutdown']);
    assert.deepEqual(run([c(hello), close('idle')]).seen, ['client 1/5 server 0/0 0  timeout']);
    assert.deepEqual(run([c(hello), close('evicted')]).seen, ['client 1/5 server 0/0 0  limit']);
  });

  test('a refused handshake, one for another protocol, and one that nobody reads make no exchange', () => {
    const refused = run([c(REQUEST), s(Buffer.from('HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n'))], {}, false);
    assert.deepEqual([refused.seen, refused.bench.emitted.length], [[], 1]);
    const tcp = Buffer.from('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    const other = run([c(REQUEST), s(tcp), c(hello), s(world), close('fin')], {}, false);
    assert.deepEqual([other.seen, other.bench.emitted.length, other.bench.muted], [[], 1, 1]);
    const plain = new Bench();
    plain.run([c(REQUEST), s(ANSWER), c(hello), close('fin')]);
    assert.deepEqual([plain.emitted.length, plain.muted, plain.counters.parseErrors], [1, 1, {}]);
  });

  test('the request repeats, byte for byte, on one connection: the answer decides', () => {
    const refuse = Buffer.from('HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n');
    const steps = Array.from({ length: 4 }, () => [c(REQUEST), s(refuse)]).flat();
    const { bench, seen } = run([...steps, c(REQUEST), s(ANSWER), c(goodbye), s(farewell)], {}, false);
    assert.deepEqual([bench.emitted.length, seen], [5, ['client 0/0 server 0/0 1000 client']]);
  });

  suite('with holes', () => {
    const up = Buffer.concat([fromClient(BINARY, Buffer.alloc(100)), fromClient(TEXT, 'next'), goodbye]);

    test('within a payload: nothing is missing', () => {
      for (let from = 6; from < 106; from += 9) {
        for (let length = 1; from + length <= 106; length += 13) {
          const steps = [c(up.subarray(0, from)), gap(FROM_CLIENT, length), c(up.subarray(from + length)), s(farewell)];
          const { seen, bench } = run(steps);
          assert.deepEqual(seen, ['client 2/104 server 0/0 1000 client'], `${from}+${length}`);
          assert.deepEqual([bench.counters.incomplete, bench.counters.parseErrors], [{}, {}]);
        }
      }
    });

    test('of a payload to its very end, and of that of a fragment', () => {
      const first = fromClient(TEXT, 'abcd', { fin: false });
      const rest = fromClient(CONTINUATION, 'ef');
      const steps = [c(first.subarray(0, 7)), gap(FROM_CLIENT, 3), c(rest), c(goodbye), s(farewell)];
      assert.deepEqual(run(steps).seen, ['client 1/6 server 0/0 1000 client']);
    });

    test('that took a header: counts are the least that there was, and a later frame is found', () => {
      const steps = [c(hello), gap(FROM_CLIENT, 50), c(Buffer.from('middle')), c(hello), c(goodbye), s(farewell)];
      const { seen, bench } = run(steps);
      assert.deepEqual(seen, ['client 2/10 server 0/0 1000 client gap']);
      assert.deepEqual([bench.counters.incomplete, bench.counters.parseErrors], [{ gap: 1 }, {}]);
    });

    test('behind a payload: the message is whole, what follows is lost', () => {
      const steps = [c(hello.subarray(0, 8)), gap(FROM_CLIENT, 10), c(hello), c(goodbye), s(farewell)];
      assert.deepEqual(run(steps).seen, ['client 2/10 server 0/0 1000 client gap']);
    });

    test('after which nothing is found, and whoever closed it is not known to have done so in order', () => {
      const { seen } = run([gap(FROM_SERVER, 9), s(Buffer.alloc(50, 0x7f)), close('reset')]);
      assert.deepEqual(seen, ['client 0/0 server 0/0 0  gap']);
    });

    test('in the code of a Close frame', () => {
      const steps = [c(goodbye.subarray(0, 7)), gap(FROM_CLIENT, 2), c(goodbye.subarray(9)), s(farewell)];
      assert.deepEqual(run(steps).seen, ['client 0/0 server 0/0 0 client']);
      // Behind the code it does not matter.
      const after = [c(goodbye.subarray(0, 9)), gap(FROM_CLIENT, 3), s(farewell)];
      assert.deepEqual(run(after).seen, ['client 0/0 server 0/0 1000 client']);
    });

    test('a boundary in the middle of a message: continuations are taken as they come', () => {
      const steps = [
        gap(FROM_SERVER, 4),
        s(Buffer.concat([fromServer(CONTINUATION, 'ab', { fin: false }), fromServer(CONTINUATION, 'c'), world])),
        ...[s(farewell), c(goodbye)],
      ];
      assert.deepEqual(run(steps).seen, ['client 0/0 server 2/9 1000 server gap']);
    });
  });

  suite('with bytes that are no frames', () => {
    const bad: readonly (readonly [string, Buffer])[] = [
      ['an opcode that is reserved', fromClient(3, 'x')],
      ['a control opcode that is reserved', fromClient(11, 'x')],
      ['RSV2', Buffer.from([0xa1, 0x80, 0, 0, 0, 0])],
      ['a long control frame', fromClient(PING, Buffer.alloc(126))],
      ['a control frame in fragments', fromClient(PING, 'x', { fin: false })],
      ['a compressed control frame', fromClient(PING, 'x', { rsv1: true })],
      ['a continuation of nothing', fromClient(CONTINUATION, 'x')],
      ['a length beyond all measure', Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ];
    for (const [name, bytes] of bad) {
      test(name, () => {
        const { seen, bench } = run([c(hello), c(bytes), c(hello), c(goodbye), s(farewell)]);
        assert.deepEqual(seen, ['client 2/10 server 0/0 1000 client protocol_error']);
        assert.deepEqual(bench.counters.parseErrors, { websocket: 1 });
        assert.deepEqual(bench.counters.incomplete, { protocol_error: 1 });
      });
    }

    test('a client that does not mask, or a server that does: read all the same, counted once for each', () => {
      const bare = fromServer(TEXT, 'bare');
      const { seen, bench } = run([c(hello), c(bare), c(bare), s(hello), s(world), c(farewell), s(goodbye)]);
      assert.deepEqual(seen, ['client 3/13 server 2/11 1000 client']);
      assert.deepEqual([bench.counters.parseErrors, bench.counters.incomplete], [{ websocket: 2 }, {}]);
      const pinged = run([c(fromServer(PING, '')), s(fromServer(PONG, '')), c(hello), s(farewell), c(goodbye)]);
      assert.deepEqual(pinged.seen, ['client 1/5 server 0/0 1000 server']);
      assert.deepEqual(pinged.bench.counters.parseErrors, { websocket: 1 });
    });

    test('a message within another', () => {
      const steps = [c(fromClient(TEXT, 'a', { fin: false })), c(hello), c(goodbye), s(farewell)];
      assert.deepEqual(run(steps).seen, ['client 0/1 server 0/0 1000 client protocol_error']);
    });

    test('too many: it is given up', () => {
      const nonsense = [c(fromClient(3)), c(fromClient(PING))];
      const { seen, bench } = run([...nonsense, ...nonsense, ...nonsense, c(hello), close('fin')], {
        httpParseErrors: 2,
      });
      assert.deepEqual(seen, ['client 0/0 server 0/0 0  protocol_error']);
      assert.deepEqual([bench.counters.parseErrors, bench.muted], [{ websocket: 3 }, 1]);
    });

    test('bytes of the client before the 101, which it has to wait for: found again', () => {
      const { seen, bench } = run(
        [c(Buffer.concat([REQUEST, hello])), s(ANSWER), c(hello), c(goodbye), s(farewell)],
        {},
        false,
      );
      assert.deepEqual([bench.emitted.length, seen], [1, ['client 1/5 server 0/0 1000 client gap']]);
    });
  });

  test('holds no more than the header that is cut in each direction', () => {
    const bench = new Bench((context) =>
      createWebSocketLayer(context, httpExchange({ connection: context.connection })),
    );
    const layer = bench.layer as WebSocketLayer;
    assert.equal(layer.heldBytes, 0);
    bench.run([c(fromClient(BINARY, Buffer.alloc(100_000)).subarray(0, 90_000))]);
    assert.equal(layer.heldBytes, 0);
    bench.run([c(Buffer.alloc(10_014)), c(hello.subarray(0, 3)), s(world.subarray(0, 1))]);
    assert.equal(layer.heldBytes, 2 * MAX_HEADER_BYTES);
  });

  test('where a frame begins: frames up to the end of the bytes, or enough of them', () => {
    const part = fromServer(CONTINUATION, 'part', { fin: false });
    const proofs: readonly (readonly [boolean, ...Buffer[]])[] = [
      [true, world],
      [true, part, part],
      [true, world, world, world, world.subarray(0, 1)],
      [true, world, world, world.subarray(0, 4)],
      [true, farewell],
      [false, part],
      [false, world.subarray(0, 4)],
      [false, world, world.subarray(0, 4)],
      [false, world, world.subarray(0, 1)],
      [false, world, Buffer.from('?')],
      [false, hello],
      [false, fromServer(TEXT, 'world!', { extended: 2 })],
      [false, fromServer(CONTINUATION, 'world!', { rsv1: true })],
      [false, Buffer.from('text')],
    ];
    proofs.forEach(([expected, ...frames], i) => {
      const bytes = Buffer.concat(frames);
      assert.equal(beginsFrame(bytes, 0, bytes.length, false), expected, `proof ${i}`);
    });
    assert.equal(beginsFrame(hello, 0, hello.length, true), true);
    assert.equal(beginsFrame(world, 0, world.length, true), false);
  });

  test('a header needs all of its octets, and no more', () => {
    const header = new FrameHeader();
    for (const length of [0, 125, 126, 65_535, 65_536]) {
      const bytes = fromClient(BINARY, Buffer.alloc(length));
      const size = bytes.length - length;
      for (let end = 0; end < size; end++) assert.equal(readHeader(header, bytes, 0, end, true), 0);
      assert.equal(readHeader(header, bytes, 0, size, true), size);
      assert.deepEqual([header.length, header.key0, header.key1], [length, 0x12, 0xfe]);
    }
  });
});
