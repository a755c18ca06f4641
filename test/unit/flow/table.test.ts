import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DIRECTION_EGRESS } from '../../../src/capture/records.ts';
import { FlowHarness } from '../../support/wire/flows.ts';
import { packetRecord } from '../../support/wire/packets.ts';

describe('FlowTable: one connection', () => {
  it('delivers both directions, the ends and the close', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'GET' });
    flows.server({ seq: 501, ack: 104, payload: '200' });
    flows.client({ seq: 104, ack: 504, flags: 'F' });
    flows.server({ seq: 504, ack: 105, payload: '!', flags: 'F' });
    assert.deepEqual(flows.layer.log, ['> GET', '< 200', '> end fin', '< !', '< end fin', 'close fin']);
    const { connection } = flows.layer;
    assert.equal(connection.startSeen, true);
    assert.deepEqual(connection.initialSequence, [100, 500]);
    assert.deepEqual([connection.client.address, connection.client.port], ['10.0.0.1', 40_000]);
    assert.deepEqual([connection.server.address, connection.server.port], ['10.0.0.2', 80]);
    assert.deepEqual(flows.counters.connections.ended, { fin: 1 });
    assert.equal(flows.counters.connections.tcp, 1);
    assert.equal(flows.ended.length, 1);
    assert.equal(flows.table.size, 0);
  });

  it('ends a connection whose layer says that nothing follows, after the packet in hand', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'bye' });
    flows.layer.onData = (direction) => {
      if (direction === 1) flows.layer.control.finish();
    };
    flows.server({ seq: 501, ack: 104, payload: 'bye' });
    assert.deepEqual(flows.layer.log, ['> bye', '< bye', '> end fin', '< end fin', 'close fin']);
    // What the sockets say then is of a connection that is known to have ended.
    flows.server({ seq: 504, ack: 104, flags: 'F' });
    flows.client({ seq: 104, ack: 505, flags: 'R' });
    assert.equal(flows.ended.length, 1);
    assert.equal(flows.table.size, 0);
    assert.equal(flows.counters.connections.tcp, 1);
  });

  it('opens no layer for a connection without data, but ends it', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, flags: 'R' });
    assert.equal(flows.layers.length, 0);
    assert.equal(flows.ended.length, 1);
    assert.deepEqual(flows.counters.connections.ended, { reset: 1 });
  });

  it('takes a SYN-ACK for the start when the SYN was not seen', () => {
    const flows = new FlowHarness();
    flows.server({ seq: 500, ack: 101, flags: 'S' });
    flows.client({ seq: 101, ack: 501, payload: 'a' });
    assert.deepEqual(flows.layer.log, ['> a']);
    assert.deepEqual(flows.layer.connection.initialSequence, [100, 500]);
    assert.equal(flows.layer.connection.startSeen, true);
    assert.equal(flows.layer.connection.client.port, 40_000);
  });

  it('takes part in a simultaneous open', () => {
    const flows = new FlowHarness();
    flows.client({ seq: 100, flags: 'S' });
    flows.server({ seq: 500, flags: 'S' });
    flows.client({ seq: 100, ack: 501, flags: 'S' });
    flows.server({ seq: 500, ack: 101, flags: 'S' });
    flows.server({ seq: 501, ack: 101, payload: 'b' });
    flows.client({ seq: 101, ack: 502, payload: 'a' });
    assert.deepEqual(flows.layer.log, ['< b', '> a']);
    assert.deepEqual(flows.layer.connection.initialSequence, [100, 500]);
    assert.equal(flows.counters.connections.tcp, 1);
  });

  it('accepts data on the SYN (RFC 7413), accepted or not', () => {
    for (const ack of [104, 101]) {
      const flows = new FlowHarness();
      flows.client({ seq: 100, flags: 'S', payload: 'abc' });
      flows.server({ seq: 500, ack, flags: 'S' });
      flows.client({ seq: 101, ack: 501, payload: 'abcdef' });
      assert.deepEqual(flows.layer.log, ['> abc', '> def']);
    }
  });

  it('goes on after half a close', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'q', flags: 'F' });
    flows.server({ seq: 501, ack: 103, payload: 'answer' });
    flows.client({ seq: 103, ack: 507 });
    flows.server({ seq: 507, ack: 103, flags: 'F' });
    assert.deepEqual(flows.layer.log, ['> q', '> end fin', '< answer', '< end fin', 'close fin']);
  });

  it('ignores data behind a FIN, and late copies of a closed connection', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'q', flags: 'F' });
    flows.client({ seq: 102, ack: 501, payload: 'later' });
    flows.client({ seq: 101, ack: 501, payload: 'qlater' });
    flows.server({ seq: 501, ack: 103, flags: 'F' });
    flows.server({ seq: 501, ack: 103, payload: 'x' });
    assert.deepEqual(flows.layer.log, ['> q', '> end fin', '< end fin', 'close fin']);
    assert.equal(flows.counters.reassembly.after_fin, 2);
    assert.equal(flows.counters.reassembly.after_close, 1);
    assert.equal(flows.counters.connections.tcp, 1);
  });

  it('tells resets from garbage', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'a' });
    flows.client({ seq: 0x9000_0000, flags: 'R' });
    assert.equal(flows.counters.reassembly.bad_reset, 1);
    flows.server({ seq: 501, ack: 102, flags: 'R' });
    assert.deepEqual(flows.layer.log, ['> a', '> end reset', '< end reset', 'close reset']);
  });

  it('ends a refused connection', () => {
    const flows = new FlowHarness();
    flows.client({ seq: 100, flags: 'S' });
    flows.server({ seq: 0, ack: 101, flags: 'R' });
    assert.deepEqual(flows.counters.connections.ended, { reset: 1 });
  });

  it('keeps a new connection with the same ports apart', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'old' });
    flows.client({ seq: 100, flags: 'S' }); // a retransmitted SYN is none
    flows.client({ seq: 7000, flags: 'S', timeUs: 2_000_000 });
    flows.server({ seq: 9000, ack: 7001, flags: 'S' });
    flows.client({ seq: 7001, ack: 9001, payload: 'new' });
    assert.deepEqual(flows.layers[0]!.log, ['> old', '> end reused', '< end reused', 'close reused']);
    assert.deepEqual(flows.layers[1]!.log, ['> new']);
    assert.deepEqual(flows.layers[1]!.connection.initialSequence, [7000, 9000]);
    assert.deepEqual(flows.counters.connections.ended, { reused: 1 });
  });

  it('is not moved by an answer to an older SYN', () => {
    const flows = new FlowHarness();
    flows.client({ seq: 100, flags: 'S' });
    flows.server({ seq: 333, ack: 44, flags: 'S' });
    flows.server({ seq: 500, ack: 101, flags: 'S' });
    flows.client({ seq: 101, ack: 501, payload: 'a' });
    assert.deepEqual(flows.layer.connection.initialSequence, [100, 500]);
    assert.equal(flows.counters.reassembly.bad_syn_ack, 1);
  });
});

describe('FlowTable: connections whose start was not seen', () => {
  const guess = (text: string, fromServerPort: boolean) => {
    const flows = new FlowHarness();
    const payload = Buffer.from(text, 'latin1');
    if (fromServerPort) flows.server({ seq: 500, ack: 101, payload });
    else flows.client({ seq: 101, ack: 501, payload });
    return flows.layer;
  };

  it('guesses the client from the first bytes, else from the ports', () => {
    assert.deepEqual(guess('xyz', false).log, ['> xyz']);
    assert.deepEqual(guess('xyz', true).log, ['< xyz']);
    assert.equal(guess('xyz', true).connection.startSeen, false);
    // As if the server sat at the higher port.
    assert.deepEqual(guess('HTTP/1.1 200 OK', false).log, ['< HTTP/1.1 200 OK']);
    assert.deepEqual(guess('GET / HTTP/1.1', true).log, ['> GET / HTTP/1.1']);
    assert.deepEqual(guess('\x16\x03\x01\x00\x80\x01', true).log, ['> \x16\x03\x01\x00\x80\x01']);
    assert.deepEqual(guess('\x16\x03\x03\x00\x80\x02', false).log, ['< \x16\x03\x03\x00\x80\x02']);
  });

  it('knows a port that others connected to', () => {
    const flows = new FlowHarness();
    flows.client({ srcPort: 1234, dstPort: 50_000, seq: 1, flags: 'S' });
    flows.client({ srcPort: 2000, dstPort: 50_000, seq: 1, ack: 1, payload: 'x' });
    assert.equal(flows.layer.connection.client.port, 2000);
  });

  it('makes no connection of packets without data', () => {
    const flows = new FlowHarness();
    for (const flags of ['', 'F', 'R']) assert.equal(flows.client({ seq: 1, ack: 1, flags }).connection, undefined);
    assert.equal(flows.counters.connections.tcp, 0);
    assert.equal(flows.counters.packets.ignored.no_connection, 3);
  });
});

describe('FlowTable: holes', () => {
  it('waits for what is missing', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 104, payload: 'def' });
    flows.client({ seq: 107, payload: 'g' });
    assert.equal(flows.table.heldBytes > 0, true);
    flows.client({ seq: 101, payload: 'abc' });
    assert.deepEqual(flows.layer.log, ['> abc', '> def', '> g']);
    assert.equal(flows.table.heldBytes, 0);
  });

  it('gives up at once what the other end has acknowledged', () => {
    const flows = new FlowHarness();
    const live = (cookie: number) => ({ cookie, direction: DIRECTION_EGRESS }) as const;
    flows.handshake();
    flows.client({ seq: 104, ack: 501, payload: 'def', ...live(1) });
    flows.server({ seq: 501, ack: 102, payload: 'x', ...live(2) });
    flows.server({ seq: 502, ack: 107, payload: 'y', ...live(2) });
    assert.deepEqual(flows.layer.log, ['> gap 1', '< x', '> gap 2', '> def', '< y']);
    flows.server({ seq: 503, ack: 120, payload: 'z', ...live(2) });
    assert.deepEqual(flows.layer.log.slice(5), ['> gap 13', '< z']);
    assert.deepEqual(
      [flows.counters.reassembly.gap, flows.counters.reassembly.gap_bytes, flows.counters.reassembly.acked_unseen],
      [3, 16, 3],
    );
  });

  it('does not take the acknowledgement of a FIN that was lost for a byte', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'a' });
    flows.server({ seq: 501, ack: 103, payload: 'x' });
    assert.deepEqual(flows.layer.log, ['> a', '< x']);
  });

  it('gives up after a time, which progress renews', () => {
    const flows = new FlowHarness({ reassemblyHoleUs: 1000 });
    flows.handshake();
    flows.client({ seq: 111, payload: 'k', timeUs: 2_000_000 });
    flows.table.tick(2_000_900);
    flows.client({ seq: 101, payload: 'a', timeUs: 2_000_950 });
    flows.table.tick(2_001_900);
    assert.deepEqual(flows.layer.log, ['> a']);
    flows.table.tick(2_001_950);
    assert.deepEqual(flows.layer.log, ['> a', '> gap 9', '> k']);
    assert.equal(flows.counters.reassembly.hole_timeout, 1);
  });

  it('gives what was held behind a hole that is given up the time at which it was seen', () => {
    for (const giveUp of ['timeout', 'acknowledged', 'closed']) {
      const flows = new FlowHarness();
      flows.handshake();
      flows.server({ seq: 501, ack: 101, payload: 'a', timeUs: 2_000_000 });
      flows.server({ seq: 503, ack: 101, payload: 'c', timeUs: 2_000_010 });
      flows.server({ seq: 505, ack: 101, payload: 'e', timeUs: 2_000_030 });
      flows.server({ seq: 504, ack: 101, payload: 'd', timeUs: 2_000_020 });
      flows.server({ seq: 506, ack: 101, flags: 'F', timeUs: 2_000_040 });
      if (giveUp === 'timeout') flows.table.tick(9_000_000);
      else if (giveUp === 'closed') flows.table.closeAll('shutdown', 9_000_000);
      else flows.client({ seq: 101, ack: 507, timeUs: 9_000_000, cookie: 1, direction: DIRECTION_EGRESS });
      assert.deepEqual(flows.layer.log.slice(0, 6), ['< a', '< gap 1', '< c', '< d', '< e', '< end fin']);
      assert.deepEqual(
        flows.layer.times.slice(0, 6),
        [2_000_000, 2_000_010, 2_000_010, 2_000_020, 2_000_030, 2_000_040],
        giveUp,
      );
    }
  });

  it('gives what was held behind a hole that is filled the time at which the receiver could have it', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.server({ seq: 502, payload: 'b', timeUs: 2_000_000 });
    flows.server({ seq: 504, payload: 'd', timeUs: 2_000_001 });
    flows.server({ seq: 501, payload: 'a', timeUs: 2_000_500 });
    flows.table.tick(9_000_000);
    assert.deepEqual(flows.layer.log, ['< a', '< b', '< gap 1', '< d']);
    assert.deepEqual(flows.layer.times, [2_000_500, 2_000_500, 2_000_500, 2_000_500]);
  });

  it('gives up several holes of one age together', () => {
    const flows = new FlowHarness({ reassemblyHoleUs: 1000 });
    flows.handshake();
    for (const seq of [103, 105, 107]) flows.client({ seq, payload: 'x', timeUs: 2_000_000 });
    flows.client({ seq: 109, flags: 'F', timeUs: 2_000_000 });
    flows.table.tick(2_001_000);
    assert.deepEqual(flows.layer.log, ['> gap 2', '> x', '> gap 1', '> x', '> gap 1', '> x', '> gap 1', '> end fin']);
  });

  it('gives up at the end of the connection', () => {
    for (const [flags, reason] of [
      ['R', 'reset'],
      ['', 'shutdown'],
    ] as const) {
      const flows = new FlowHarness();
      flows.handshake();
      flows.client({ seq: 104, payload: 'def' });
      if (flags === 'R') flows.client({ seq: 107, flags });
      else flows.table.closeAll('shutdown', 5);
      assert.deepEqual(flows.layer.log, ['> gap 3', '> def', `> end ${reason}`, `< end ${reason}`, `close ${reason}`]);
      assert.equal(flows.table.heldBytes, 0);
    }
  });

  it('keeps a FIN until all before it is there', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.server({ seq: 501, ack: 101, flags: 'F' });
    flows.client({ seq: 104, ack: 502, payload: 'd', flags: 'F' });
    flows.client({ seq: 101, ack: 502, payload: 'abc' });
    // The end of a direction that never had data comes first of all.
    assert.deepEqual(flows.layer.log, ['< end fin', '> abc', '> d', '> end fin', 'close fin']);
  });

  it('reports what the capture cut from each packet', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, payload: 'abcdef', snapLength: 43 });
    flows.client({ seq: 110, payload: 'jkl', snapLength: 41 });
    flows.client({ seq: 107, payload: 'ghi' });
    assert.deepEqual(flows.layer.log, ['> abc', '> gap 3', '> ghi', '> j', '> gap 2']);
    assert.equal(flows.counters.reassembly.not_captured_bytes, 5);
    assert.equal(flows.counters.reassembly.gap, undefined);
  });

  it('keeps its caps on bytes, pieces and the total', () => {
    const perDirection = new FlowHarness({ reassemblyBytesPerDirection: 2000 });
    perDirection.handshake();
    for (let i = 0; i < 100; i++) perDirection.client({ seq: 201 + i * 20, payload: 'x'.repeat(10) });
    assert.ok(perDirection.table.heldBytes <= 2000);
    assert.ok(perDirection.counters.reassembly.held_bytes_limit! > 50);

    const pieces = new FlowHarness({ reassemblyPiecesPerDirection: 5 });
    pieces.handshake();
    for (let i = 0; i < 6; i++) pieces.client({ seq: 103 + i * 2, payload: 'x' });
    assert.deepEqual(pieces.layer.log, ['> gap 2', '> x']);

    const total = new FlowHarness({ reassemblyBytes: 3000 });
    for (let port = 1; port <= 20; port++) {
      total.client({ srcPort: port, seq: 100, flags: 'S' });
      total.client({ srcPort: port, seq: 111, payload: 'late' });
      assert.ok(total.table.heldBytes <= 3000);
    }
    assert.deepEqual(total.layers[0]!.log, ['> gap 10', '> late']);
    assert.equal(total.counters.reassembly.total_held_bytes_limit, 20 - 11);
  });

  it('ignores a stray segment, and follows a stream that has jumped', () => {
    const flows = new FlowHarness({ reassemblyWindowBytes: 2 ** 20, reassemblyBytesPerDirection: 2 ** 20 });
    flows.handshake();
    flows.client({ seq: 101, payload: 'a' });
    flows.client({ seq: 0x7000_0000, payload: 'garbage', ack: 0x7000_0000 });
    flows.client({ seq: 102, payload: 'b' });
    assert.deepEqual(flows.layer.log, ['> a', '> b']);
    flows.client({ seq: 103 + 2 ** 21, payload: 'cd' });
    flows.client({ seq: 105 + 2 ** 21, payload: 'ef' });
    flows.client({ seq: 107 + 2 ** 21, payload: 'g' });
    assert.deepEqual(flows.layer.log.slice(2), [`> gap ${2 ** 21 + 2}`, '> ef', '> g']);
    assert.equal(flows.counters.reassembly.resynchronized, 1);
  });

  it('counts keep-alives, retransmissions and overlaps that differ; the first copy wins', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, payload: 'abc' });
    flows.client({ seq: 103, payload: 'c' });
    flows.client({ seq: 103, payload: '' });
    flows.client({ seq: 101, payload: 'abc' });
    flows.client({ seq: 102, payload: 'bcd' });
    flows.client({ seq: 107, payload: 'GHI' });
    flows.client({ seq: 106, payload: 'fGHxyz' });
    flows.client({ seq: 105, payload: 'efg' });
    assert.equal(flows.layer.bytes(0).toString(), 'abcdefGHIyz');
    const { reassembly } = flows.counters;
    assert.deepEqual(
      [reassembly.keep_alive, reassembly.retransmission, reassembly.partial_retransmission, reassembly.overlap_differs],
      [1, 1, 1, 2],
    );
  });
});

describe('FlowTable: time and room', () => {
  it('ends idle connections and forgets closed ones', () => {
    const flows = new FlowHarness({ idleUs: 10_000_000, unusedUs: 10_000_000, lingerUs: 1_000_000 });
    flows.client({ seq: 1, payload: 'a', srcPort: 1, timeUs: 0 });
    flows.client({ seq: 1, payload: 'a', srcPort: 2, timeUs: 1 });
    flows.client({ seq: 2, payload: 'b', srcPort: 1, timeUs: 5_000_000 });
    flows.client({ seq: 100, flags: 'S', srcPort: 3, timeUs: 5_000_000 });
    flows.table.tick(10_500_000);
    assert.deepEqual(flows.layers[1]!.log.at(-1), 'close idle');
    assert.equal(flows.table.size, 2);
    flows.table.tick(15_000_000);
    assert.equal(flows.table.size, 0);
    assert.deepEqual(flows.counters.connections.ended, { idle: 3 });
  });

  it('ends what one side has closed when nothing follows: soon for a server, later for a client', () => {
    const flows = new FlowHarness({ serverClosedUs: 10_000_000, clientClosedUs: 60_000_000 });
    for (const srcPort of [50_001, 50_002]) {
      flows.client({ seq: 1, payload: 'a', srcPort, timeUs: 0 });
      flows.server({ seq: 1, payload: 'b', dstPort: srcPort, timeUs: 0 });
    }
    flows.server({ seq: 2, flags: 'F', dstPort: 50_001, timeUs: 1_000_000 });
    flows.client({ seq: 2, flags: 'F', srcPort: 50_002, timeUs: 1_000_000 });
    flows.table.tick(10_900_000);
    assert.equal(flows.table.size, 2);
    flows.table.tick(11_100_000);
    assert.equal(flows.table.size, 1);
    assert.deepEqual(flows.layers[0]!.log.at(-1), 'close fin');
    flows.table.tick(61_100_000);
    assert.equal(flows.table.size, 0);
    assert.deepEqual(flows.counters.connections.ended, { fin: 2 });
  });

  it('makes room: closed ones first, then those without data, then the longest idle', () => {
    const flows = new FlowHarness({ connections: 3, lingeringConnections: 3 });
    const open = (srcPort: number, timeUs: number) => flows.client({ srcPort, seq: 1, payload: `${srcPort}`, timeUs });
    open(1, 0);
    open(2, 0);
    flows.client({ srcPort: 3, seq: 100, flags: 'S', timeUs: 0 });
    flows.client({ srcPort: 1, seq: 2, payload: 'x', timeUs: 3_000_000 });
    open(4, 3_000_000);
    assert.equal(flows.layers.length, 3);
    assert.equal(flows.counters.connections.ended.evicted, 1);
    open(5, 3_000_000);
    assert.deepEqual(flows.layers[1]!.log.at(-1), 'close evicted');
    flows.client({ srcPort: 4, seq: 2, flags: 'R', timeUs: 3_000_000 });
    open(6, 3_000_000);
    assert.equal(flows.counters.connections.ended.evicted, 2);
    assert.equal(flows.table.size, 3);
  });

  it('bounds what it remembers of closed connections', () => {
    const flows = new FlowHarness({ lingeringConnections: 2 });
    for (let srcPort = 1; srcPort <= 5; srcPort++) {
      flows.client({ srcPort, seq: 1, payload: 'a' });
      flows.client({ srcPort, seq: 2, flags: 'R' });
    }
    flows.client({ srcPort: 1, seq: 2, ack: 1 });
    assert.deepEqual(flows.counters.packets.ignored, { no_connection: 1 });
    flows.client({ srcPort: 5, seq: 2, ack: 1 });
    assert.deepEqual(flows.counters.packets.ignored, { no_connection: 1 });
  });

  it('ticks those who want it', () => {
    const flows = new FlowHarness();
    flows.client({ seq: 1, payload: 'a', srcPort: 1001 });
    flows.client({ seq: 1, payload: 'b', srcPort: 1002 });
    flows.layers[0]!.control.wantTicks(true);
    flows.table.tick(7);
    flows.layers[0]!.control.wantTicks(false);
    flows.table.tick(8);
    assert.deepEqual(flows.layers[0]!.log, ['> a', 'tick 7']);
    assert.deepEqual(flows.layers[1]!.log, ['> b']);
  });

  it('counts what it saw', () => {
    const flows = new FlowHarness();
    flows.client({ seq: 1, payload: 'abc' });
    flows.packet({ ...packetRecord(), end: 10 });
    assert.equal(flows.counters.packets.captured, 2);
    assert.equal(flows.counters.packets.bytes, 43 + 40);
    assert.equal(flows.counters.packets.ignored.truncated_headers, 1);
  });
});
