import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Relays } from '../../../src/span/relays.ts';
import { builder, connection, exchange, tls } from '../../support/spans/fixtures.ts';

const elsewhere = { socket: 0 };

describe('a TLS session that passes through this machine twice', () => {
  it('has spans of its own for each connection: no id is given twice', () => {
    const spans = builder();
    const hops = [1, 2].map((id) => connection({ id, tls: tls(), initialSequence: [id * 1000, id * 2000] }));
    const made = [0, 100].flatMap((streamOffset) =>
      hops.flatMap((hop) => spans.build(exchange({ connection: hop, streamOffset })).map((span) => span.clone())),
    );
    assert.equal(made.length, 8);
    assert.equal(new Set(made.map(({ spanId }) => spanId)).size, 8);
    // Both ends of a connection are in one trace; that of the other is another one.
    assert.deepEqual(
      made.map((span) => span.parentSpanId),
      [0, 2, 4, 6].flatMap((at) => ['', made[at]!.spanId]),
    );
    assert.equal(new Set(made.map(({ traceId }) => traceId)).size, 4);
  });

  it('is one session all the same where addresses are translated: each connection has one end', () => {
    const relays = new Relays();
    assert.equal(relays.hasGiven(connection({ id: 1, tls: tls(), server: elsewhere })), false);
    assert.equal(relays.hasGiven(connection({ id: 2, tls: tls(), client: elsewhere })), false);
    // Asked again.
    assert.equal(relays.hasGiven(connection({ id: 1, tls: tls(), server: elsewhere })), false);
    assert.equal(relays.hasGiven(connection({ id: 3, tls: tls(), client: elsewhere })), true);
  });

  it('is told in files, too, which know no sockets', () => {
    const relays = new Relays();
    const ends = { client: elsewhere, server: elsewhere };
    assert.equal(relays.hasGiven(connection({ id: 1, tls: tls(), ...ends })), false);
    assert.equal(relays.hasGiven(connection({ id: 2, tls: tls(), ...ends })), true);
    assert.equal(relays.hasGiven(connection({ id: 3, tls: tls(2), ...ends })), false);
    assert.equal(relays.hasGiven(connection({ id: 4, ...ends })), false);
  });

  it('is remembered for a bounded number of sessions', () => {
    const relays = new Relays();
    for (let id = 1; id <= 100_000; id++) {
      const random = Buffer.alloc(32);
      random.writeUInt32BE(id);
      assert.equal(relays.hasGiven(connection({ id, tls: { ...tls(), clientRandom: random } })), false);
    }
    const { recent, older } = relays as unknown as Record<'recent' | 'older', Map<string, object>>;
    assert.ok(recent.size + older.size <= 4096);
  });
});

describe('a plain connection that is seen twice', () => {
  const places = [
    { server: { ...elsewhere, address: '10.96.0.10' }, client: elsewhere },
    { server: { ...elsewhere, address: '10.244.2.9', port: 8080 }, client: elsewhere },
  ];
  const idsOf = (connections: ReturnType<typeof connection>[], perspective: 'both' | 'auto' | 'replay') => {
    const spans = builder({ perspective });
    return connections.flatMap((one) =>
      [0, 100].flatMap((streamOffset) =>
        spans.build(exchange({ connection: one, streamOffset })).map((span) => span.clone()),
      ),
    );
  };

  it('has ids of its own for each sighting in a file, before and after address translation or read twice', () => {
    const twice = [1, 2].map((id) => connection({ id, ...places[0] }));
    const translated = [1, 2].map((id) => connection({ id, ...places[id - 1]! }));
    const late = [1, 2].map((id) => connection({ id, ...places[0]!, startSeen: false, initialSequence: [-1, -1] }));
    for (const sightings of [twice, translated, late]) {
      for (const perspective of ['both', 'replay'] as const) {
        const made = idsOf(sightings, perspective);
        assert.equal(made.length, perspective === 'both' ? 8 : 4);
        assert.equal(new Set(made.map(({ spanId }) => spanId)).size, made.length);
        assert.equal(new Set(made.map(({ traceId }) => traceId)).size, 4);
      }
    }
  });

  it('has ids of its own for each sighting of a TLS session with the same sequence numbers', () => {
    const made = idsOf(
      [1, 2].map((id) => connection({ id, tls: tls(), ...places[id - 1]! })),
      'both',
    );
    const third = idsOf(
      [1, 2, 3].map((id) => connection({ id, tls: tls(), ...places[0]! })),
      'both',
    );
    assert.equal(new Set(made.map(({ spanId }) => spanId)).size, 8);
    assert.equal(new Set(third.map(({ spanId }) => spanId)).size, 12);
  });

  it('is one where the two sightings are its two sockets on one machine: a CLIENT and a SERVER span of one trace', () => {
    const made = idsOf(
      [
        connection({ id: 1, server: { socket: 0, address: '10.96.0.10' } }),
        connection({ id: 2, client: { socket: 0 }, server: { address: '10.244.2.9', port: 8080 } }),
      ],
      'auto',
    );
    assert.equal(made.length, 4);
    assert.equal(made[2]!.parentSpanId, made[0]!.spanId);
    assert.equal(made[2]!.traceId, made[0]!.traceId);
  });
});
