/** Packets that stand in another order than they were sent in, holes that the receiver has, too, and bytes that are not of the stream. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FlowHarness } from '../../support/wire/flows.ts';

describe('an acknowledgement before its data', () => {
  it('waits for them, alone or with an answer', () => {
    for (const answer of ['', 'answer']) {
      for (const lateUs of [0, 10, 9_999]) {
        const flows = new FlowHarness();
        flows.handshake();
        flows.server({ seq: 501, ack: 108, payload: answer, timeUs: 2_000_000 });
        assert.equal(flows.layers.length, 0);
        flows.client({ seq: 101, ack: 501, payload: 'request', timeUs: 2_000_000 + lateUs });
        assert.deepEqual(flows.layer.log, answer === '' ? ['> request'] : ['> request', '< answer']);
        assert.equal(flows.table.heldBytes, 0);
        assert.equal(flows.counters.reassembly.ack_before_data, 1);
        assert.equal(flows.counters.reassembly.gap, undefined);
      }
    }
  });

  it('takes with it what depends on it, of either end, in order: data, FINs, a reset', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.server({ seq: 501, ack: 108, payload: 'answer', timeUs: 2_000_000 });
    flows.client({ seq: 108, ack: 507, timeUs: 2_000_010 });
    flows.client({ seq: 108, ack: 507, payload: 'second', timeUs: 2_000_020 });
    flows.server({ seq: 507, ack: 114, payload: 'again', flags: 'F', timeUs: 2_000_030 });
    flows.client({ seq: 114, flags: 'R', timeUs: 2_000_040 });
    assert.equal(flows.layers.length, 0);
    flows.client({ seq: 101, ack: 501, payload: 'request', timeUs: 2_000_050 });
    assert.deepEqual(flows.layer.log, [
      '> request',
      '< answer',
      '> second',
      '< again',
      '< end fin',
      '> end reset',
      'close reset',
    ]);
    assert.equal(flows.table.heldBytes, 0);
  });

  it('waits for several segments, in any order', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.server({ seq: 501, ack: 107, payload: 'answer', timeUs: 2_000_000 });
    for (const [seq, payload] of [
      [105, 'ef'],
      [101, 'ab'],
      [103, 'cd'],
    ] as const) {
      flows.client({ seq, ack: 501, payload, timeUs: 2_000_100 });
    }
    assert.deepEqual(flows.layer.log, ['> ab', '> cd', '> ef', '< answer']);
  });

  it('waits for a few milliseconds only, until the next packet or tick, or the end', () => {
    for (const how of ['packet', 'tick', 'end'] as const) {
      const flows = new FlowHarness();
      flows.handshake();
      flows.server({ seq: 501, ack: 108, payload: 'answer', timeUs: 2_000_000 });
      flows.table.tick(2_009_999);
      assert.equal(flows.layers.length, 0);
      if (how === 'packet') flows.server({ seq: 507, ack: 108, payload: '!', timeUs: 2_010_000 });
      if (how === 'tick') flows.table.tick(2_010_000);
      if (how === 'end') flows.table.closeAll('shutdown', 2_000_001);
      assert.deepEqual(flows.layer.log.slice(0, 2), ['> gap 7', '< answer']);
      assert.equal(flows.layer.times[1], 2_000_000);
      assert.equal(flows.table.heldBytes, 0);
    }
  });

  it('waits in bounds: of packets, and of bytes', () => {
    for (const limits of [{ reassemblyReorderPackets: 4 }, { reassemblyReorderBytes: 1300 }]) {
      const flows = new FlowHarness(limits);
      flows.handshake();
      for (let i = 0; i < 10; i++) {
        flows.server({ seq: 501 + i * 20, ack: 108, payload: 'x'.repeat(20), timeUs: 2_000_000 });
        assert.ok(flows.table.heldBytes <= 1300);
      }
      assert.equal(flows.layer.log[0], '> gap 7');
      flows.table.closeAll('shutdown', 2_000_000);
      assert.equal(flows.layer.bytes(1).length, 200);
    }
  });

  it('never waits in a live capture', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.server({ seq: 501, ack: 108, payload: 'answer', cookie: 2, direction: 1 });
    assert.deepEqual(flows.layer.log, ['> gap 7', '< answer']);
  });
});

describe('a hole that the receiver has, too', () => {
  const hole = (limits = {}): FlowHarness => {
    const flows = new FlowHarness(limits);
    flows.handshake();
    flows.client({ seq: 111, ack: 501, payload: 'later', timeUs: 2_000_000 });
    return flows;
  };

  it('is waited for, as its acknowledgements say: until it is filled, or for long', () => {
    for (const filled of [true, false]) {
      const flows = hole();
      flows.server({ seq: 501, ack: 101, timeUs: 2_000_100 });
      flows.table.tick(61_999_999);
      assert.equal(flows.layers.length, 0);
      if (filled) flows.client({ seq: 101, ack: 501, payload: 'x'.repeat(10), timeUs: 61_999_999 });
      flows.table.tick(62_000_000);
      assert.deepEqual(flows.layer.log, filled ? [`> ${'x'.repeat(10)}`, '> later'] : ['> gap 10', '> later']);
    }
  });

  it('is given up soon where the other direction is silent since', () => {
    const flows = hole();
    flows.table.tick(4_000_000);
    assert.deepEqual(flows.layer.log, ['> gap 10', '> later']);
  });

  it('is given up at once when it is acknowledged', () => {
    const flows = hole();
    flows.server({ seq: 501, ack: 101, timeUs: 2_000_100 });
    flows.server({ seq: 501, ack: 116, timeUs: 2_500_000 });
    flows.table.tick(2_600_000);
    assert.deepEqual(flows.layer.log, ['> gap 10', '> later']);
  });

  it('does not keep younger ones of other connections from their end, nor pass the caps on bytes', () => {
    const flows = hole({ reassemblyBytesPerDirection: 5000 });
    flows.server({ seq: 501, ack: 101, timeUs: 2_000_100 });
    flows.client({ srcPort: 50_000, seq: 100, flags: 'S', timeUs: 2_000_200 });
    flows.client({ srcPort: 50_000, seq: 111, payload: 'other', timeUs: 2_000_300 });
    flows.table.tick(4_500_000);
    assert.deepEqual(flows.layers[0]!.log, ['> gap 10', '> other']);
    for (let i = 0; i < 30; i++) {
      flows.client({ seq: 121 + i * 20, ack: 501, payload: 'y'.repeat(10), timeUs: 4_600_000 });
      flows.server({ seq: 501, ack: 101, timeUs: 4_600_000 });
      assert.ok(flows.table.heldBytes <= 5000);
    }
    assert.equal(flows.layers[1]!.log[0], '> gap 10');
  });
});

describe('a byte that is not of the stream', () => {
  const probe = (seq: number, timeUs = 1_000_000) => ({ seq, payload: '\0', flags: '-', timeUs });

  it('is no start: neither of a connection that was joined late, nor of a direction of it', () => {
    const flows = new FlowHarness();
    assert.equal(flows.client({ ...probe(100), ack: 501 }).connection, undefined);
    flows.server({ seq: 501, ack: 101 });
    flows.client({ ...probe(100), ack: 501 });
    flows.client({ seq: 101, ack: 501, payload: 'GET' });
    flows.server({ ...probe(500), ack: 104 });
    flows.server({ seq: 501, ack: 104, payload: 'OK' });
    assert.deepEqual(flows.layer.log, ['> GET', '< OK']);
    assert.equal(flows.counters.reassembly.keep_alive, 3);
    assert.equal(flows.counters.connections.tcp, 1);
  });

  it('but one that its application has pushed is', () => {
    const flows = new FlowHarness();
    flows.client({ seq: 101, ack: 501, payload: 'G' });
    assert.deepEqual(flows.layer.log, ['> G']);
  });

  it('does not fill a hole in what was acknowledged', () => {
    const flows = new FlowHarness();
    flows.handshake();
    flows.client({ seq: 101, ack: 501, payload: 'abc' });
    flows.client({ ...probe(110, 2_000_000), ack: 501 });
    flows.server({ seq: 501, ack: 111, timeUs: 2_000_100 });
    flows.client({ seq: 111, ack: 501, payload: 'next', timeUs: 3_000_000 });
    assert.deepEqual(flows.layer.log, ['> abc', '> gap 7', '> next']);
    assert.equal(flows.counters.reassembly.keep_alive, 1);
    const one = new FlowHarness();
    one.handshake();
    one.server({ seq: 501, ack: 102 });
    one.client({ ...probe(101, 2_000_000), ack: 501 });
    one.client({ seq: 102, ack: 501, payload: 'next', timeUs: 3_000_000 });
    assert.deepEqual(one.layer.log, ['> gap 1', '> next']);
  });
});
