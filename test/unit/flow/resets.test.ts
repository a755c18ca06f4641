/** Resets and SYNs that the receiver heeds, and those that it refuses (RFC 9293 3.10.7, RFC 5961 3 and 4). Client data begin at 101, server data at 501. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FlowHarness } from '../../support/wire/flows.ts';

const REFUSED = 'refused';
const DOUBTFUL = 'doubtful';
const CERTAIN = 'certain';

/** An exchange of 10 and 20 bytes; the last bytes of the server are acknowledged if `acked`. Windows of 65,535 bytes, scaled by 7 if `scale`. */
function talking({ acked = true, scale = false } = {}): FlowHarness {
  const flows = new FlowHarness();
  const tcpOptions = scale ? Buffer.from([2, 4, 5, 0xb4, 1, 3, 3, 7]) : Buffer.alloc(0);
  flows.client({ seq: 100, flags: 'S', tcpOptions });
  flows.server({ seq: 500, ack: 101, flags: 'S', tcpOptions });
  flows.client({ seq: 101, ack: 501, window: 1000 });
  flows.client({ seq: 101, ack: 501, payload: 'x'.repeat(10), window: 1000 });
  flows.server({ seq: 501, ack: 111, payload: 'y'.repeat(20), window: 1000 });
  if (acked) flows.client({ seq: 111, ack: 521, window: 1000 });
  return flows;
}

function verdictOf(flows: FlowHarness): string {
  const { bad_reset: refused = 0, reset_in_doubt: doubtful = 0 } = flows.counters.reassembly;
  const ended = flows.counters.connections.ended.reset ?? 0;
  assert.equal(refused + doubtful + ended, 1);
  return ended === 1 ? CERTAIN : doubtful === 1 ? DOUBTFUL : REFUSED;
}

describe('a reset', () => {
  it('counts when its number is the one that the receiver expects, and is refused outside of the window', () => {
    for (const [seq, expected] of [
      [521, CERTAIN],
      [520, REFUSED],
      [501, REFUSED],
      [0, REFUSED],
      [522, DOUBTFUL],
      [1521, DOUBTFUL],
      [1522, REFUSED],
      [1_000_521, REFUSED],
      [0x9000_0000, REFUSED],
    ] as const) {
      const flows = talking();
      flows.server({ seq, flags: 'R' });
      assert.equal(verdictOf(flows), expected, `seq ${seq}`);
      const answering = talking();
      answering.server({ seq, ack: 111, flags: 'R' });
      assert.equal(verdictOf(answering), expected, `seq ${seq} with ACK`);
    }
  });

  it('is measured by the scaled window, and by the largest that may be where the scale is not known', () => {
    const scaled = talking({ scale: true });
    scaled.server({ seq: 521 + 1000 * 128, flags: 'R' });
    assert.equal(verdictOf(scaled), DOUBTFUL);
    const beyond = talking({ scale: true });
    beyond.server({ seq: 522 + 1000 * 128, flags: 'R' });
    assert.equal(verdictOf(beyond), REFUSED);
    for (const [seq, expected] of [
      [521 + 1000 * 2 ** 14, DOUBTFUL],
      [522 + 1000 * 2 ** 14, REFUSED],
      [521, CERTAIN],
      [520, REFUSED],
    ] as const) {
      const joined = new FlowHarness();
      joined.server({ seq: 501, ack: 111, payload: 'y'.repeat(20) });
      joined.client({ seq: 111, ack: 521, window: 1000 });
      joined.server({ seq, flags: 'R' });
      assert.equal(verdictOf(joined), expected, `joined, seq ${seq}`);
    }
  });

  it('is in doubt between what is acknowledged and what was sent', () => {
    for (const [seq, expected] of [
      [521, CERTAIN],
      [510, DOUBTFUL],
      [501, DOUBTFUL],
      [500, REFUSED],
    ] as const) {
      const flows = talking({ acked: false });
      flows.server({ seq, flags: 'R' });
      assert.equal(verdictOf(flows), expected, `seq ${seq}`);
    }
  });

  it('counts behind a FIN, and at its number', () => {
    for (const seq of [521, 522]) {
      const flows = talking();
      flows.server({ seq: 521, ack: 111, flags: 'F' });
      flows.client({ seq: 111, ack: 522 });
      flows.server({ seq, flags: 'R' });
      assert.equal(verdictOf(flows), CERTAIN, `seq ${seq}`);
    }
  });

  it('refuses a SYN only when it acknowledges it', () => {
    for (const [reset, expected] of [
      [{ seq: 0, ack: 101 }, CERTAIN],
      [{ seq: 0, ack: 100 }, REFUSED],
      [{ seq: 0, ack: 5_000 }, DOUBTFUL],
      [{ seq: 0 }, REFUSED],
      [{ seq: 101 }, REFUSED],
    ] as const) {
      const flows = new FlowHarness();
      flows.client({ seq: 100, flags: 'S' });
      flows.server({ ...reset, flags: 'R' });
      assert.equal(verdictOf(flows), expected, JSON.stringify(reset));
    }
  });

  it('in doubt counts when nothing follows, with its own time, even at the end of the capture', () => {
    for (const how of ['time', 'shutdown'] as const) {
      const flows = talking();
      flows.server({ seq: 600, flags: 'R', timeUs: 3_000_000 });
      assert.equal(flows.ended.length, 0);
      if (how === 'time') flows.table.tick(5_000_000);
      else flows.table.closeAll('shutdown', 3_000_100);
      assert.deepEqual(flows.layer.log.slice(-3), ['> end reset', '< end reset', 'close reset']);
      assert.equal(flows.layer.times.at(-1), 3_000_000);
    }
  });

  it('in doubt does not count when the connection goes on, whoever speaks', () => {
    for (const [side, packet] of [
      ['client', { seq: 111, ack: 521 }],
      ['client', { seq: 111, ack: 521, payload: 'next' }],
      ['server', { seq: 521, ack: 111, payload: 'y'.repeat(100) }],
      ['server', { seq: 521, ack: 111, flags: 'F' }],
    ] as const) {
      const flows = talking();
      flows.server({ seq: 600, flags: 'R', timeUs: 3_000_000 });
      flows[side]({ ...packet, timeUs: 3_020_000 });
      flows.table.tick(9_000_000);
      assert.equal(flows.ended.length, 0, `${side} ${JSON.stringify(packet)}`);
      // The challenge is answered with a reset that fits.
      if (side === 'server') continue;
      flows.server({ seq: 521, flags: 'R', timeUs: 9_000_000 });
      assert.equal(flows.ended.length, 1);
    }
  });

  it('in doubt counts though the last data that came before it stand behind it', () => {
    const flows = talking();
    flows.server({ seq: 541, flags: 'R', timeUs: 3_000_000 });
    flows.server({ seq: 521, ack: 111, payload: 'z'.repeat(20), timeUs: 3_000_050 });
    flows.table.tick(9_000_000);
    assert.deepEqual(flows.counters.connections.ended, { reset: 1 });
    assert.equal(flows.layer.bytes(1).length, 40);
  });

  it('that was not heeded is no end: the connection is joined when the end that has sent it goes on', () => {
    const flows = talking();
    flows.server({ seq: 521, flags: 'R' });
    assert.deepEqual(flows.counters.connections.ended, { reset: 1 });
    flows.server({ seq: 501, ack: 111, payload: 'y'.repeat(20) }); // a copy
    flows.client({ seq: 111, ack: 521, payload: 'crossing' });
    assert.equal(flows.layers.length, 1);
    flows.server({ seq: 521, ack: 119, payload: 'answer' });
    assert.deepEqual(flows.layers[1]!.log, ['< answer']);
  });
});

describe('a SYN in a connection', () => {
  const goesOn = (flows: FlowHarness): void => {
    flows.client({ seq: 111, ack: 521, payload: 'next' });
    flows.server({ seq: 521, ack: 115, payload: 'more' });
    assert.deepEqual(flows.layer.log.slice(2), ['> next', '< more']);
    assert.equal(flows.counters.connections.tcp, 1);
    assert.deepEqual(flows.counters.connections.ended, {});
  };

  it('of either end, with any number, data or none, changes nothing: a challenge is the answer', () => {
    for (const seq of [7000, 90_000_000, 111, 110, 600, 99]) {
      for (const payload of ['', 'fast open']) {
        const flows = talking();
        flows.client({ seq, flags: 'S', payload });
        flows.server({ seq: 521, ack: 111 });
        goesOn(flows);
        const reversed = talking();
        reversed.server({ seq: seq + 500, flags: 'S', payload });
        reversed.client({ seq: 111, ack: 521 });
        goesOn(reversed);
      }
    }
  });

  it('nor does a SYN-ACK, of either end, more than once', () => {
    for (const answer of [
      { seq: 9000, ack: 111 },
      { seq: 9000, ack: 7001 },
      { seq: 9000, ack: 101 },
    ]) {
      const flows = talking();
      flows.server({ ...answer, flags: 'S' });
      flows.server({ ...answer, flags: 'S' });
      flows.client({ seq: 111, ack: 521 });
      goesOn(flows);
      const reversed = talking();
      reversed.client({ ...answer, ack: answer.ack + 400, flags: 'S' });
      reversed.client({ ...answer, ack: answer.ack + 400, flags: 'S' });
      goesOn(reversed);
    }
  });

  it('begins a new connection when it is answered, with what it carried and when it came', () => {
    for (const payload of ['', 'early']) {
      const flows = talking();
      flows.client({ seq: 7000, flags: 'S', payload, timeUs: 2_000_000 });
      flows.client({ seq: 7000, flags: 'S', payload, timeUs: 2_500_000 });
      flows.server({ seq: 9000, ack: 7001 + payload.length, flags: 'S', timeUs: 2_500_100 });
      flows.client({ seq: 7001 + payload.length, ack: 9001, payload: 'new', timeUs: 2_500_200 });
      assert.equal(flows.layers[0]!.log.at(-1), 'close reused');
      assert.deepEqual(flows.layers[1]!.log, payload === '' ? ['> new'] : ['> early', '> new']);
      const { initialSequence, startUs, startSeen } = flows.layers[1]!.connection;
      assert.deepEqual([initialSequence, startUs, startSeen], [[7000, 9000], 2_000_000, true]);
      assert.deepEqual(flows.counters.connections.ended, { reused: 1 });
    }
  });

  it('begins one when its own end goes on from it, where the answer was not captured, or the SYN was not', () => {
    const unanswered = talking();
    unanswered.client({ seq: 7000, flags: 'S' });
    unanswered.client({ seq: 7001, ack: 9001, payload: 'new' });
    assert.deepEqual(unanswered.layers[1]!.log, ['> new']);
    const unasked = talking();
    unasked.server({ seq: 9000, ack: 7001, flags: 'S' });
    unasked.client({ seq: 7001, ack: 9001 });
    unasked.client({ seq: 7001, ack: 9001, payload: 'new' });
    assert.deepEqual(unasked.layers[1]!.log, ['> new']);
    assert.deepEqual(unasked.layers[1]!.connection.initialSequence, [7000, 9000]);
  });

  it('begins one in the other direction', () => {
    const flows = talking();
    flows.server({ seq: 7000, flags: 'S' });
    flows.client({ seq: 9000, ack: 7001, flags: 'S' });
    flows.server({ seq: 7001, ack: 9001, payload: 'new' });
    assert.equal(flows.layers[1]!.connection.client.port, 80);
    assert.deepEqual(flows.layers[1]!.log, ['> new']);
  });

  it('shows that the old one has gone when it is refused', () => {
    const flows = talking();
    flows.client({ seq: 7000, flags: 'S' });
    flows.server({ seq: 0, ack: 7001, flags: 'R' });
    assert.deepEqual(flows.counters.connections.ended, { reused: 1, reset: 1 });
  });

  it('is followed by a reset of its own end where that has forgotten the old one, and comes again', () => {
    const flows = talking();
    flows.client({ seq: 7000, flags: 'S' });
    flows.server({ seq: 521, ack: 111 });
    flows.client({ seq: 111, flags: 'R' });
    assert.deepEqual(flows.counters.connections.ended, { reset: 1 });
    flows.client({ seq: 7000, flags: 'S' });
    flows.server({ seq: 9000, ack: 7001, flags: 'S' });
    flows.client({ seq: 7001, ack: 9001, payload: 'new' });
    assert.deepEqual(flows.layers[1]!.log, ['> new']);
    assert.deepEqual(flows.layers[1]!.connection.initialSequence, [7000, 9000]);
  });

  it('begins one behind a connection that has ended, or whose end was not seen', () => {
    const ended = talking();
    ended.server({ seq: 521, ack: 111, flags: 'F' });
    ended.client({ seq: 111, ack: 522, flags: 'F' });
    const half = talking();
    half.server({ seq: 521, ack: 111, flags: 'F' });
    for (const flows of [ended, half]) {
      flows.client({ seq: 7000, flags: 'S' });
      flows.server({ seq: 9000, ack: 7001, flags: 'S' });
      flows.client({ seq: 7001, ack: 9001, payload: 'new' });
      assert.deepEqual(flows.layers[1]!.log, ['> new']);
    }
  });

  it('does not take the socket of the end that it seems to come from', () => {
    const flows = new FlowHarness();
    const live = (cookie: number) => ({ cookie, direction: 1 }) as const;
    flows.client({ seq: 100, flags: 'S', ...live(1) });
    flows.server({ seq: 500, ack: 101, flags: 'S', ...live(2) });
    flows.client({ seq: 101, ack: 501, payload: 'a', ...live(1) });
    flows.server({ seq: 501, ack: 102, payload: 'b', ...live(2) });
    flows.client({ seq: 7000, flags: 'S', ...live(99) });
    flows.server({ seq: 502, ack: 102, ...live(2) });
    flows.client({ seq: 102, ack: 502, payload: 'c', ...live(1) });
    assert.deepEqual(flows.layer.log, ['> a', '< b', '> c']);
    assert.equal(flows.layer.connection.client.socket, 1);
    assert.equal(flows.counters.connections.tcp, 1);
  });
});

describe('what lies beyond the window', () => {
  it('is refused: data, an acknowledgement with them, a FIN', () => {
    const flows = talking();
    flows.client({ seq: 111 + 1000, ack: 900, payload: 'stray' });
    flows.client({ seq: 111 + 5000, ack: 521, flags: 'F' });
    flows.server({ seq: 521, ack: 111, window: 1000 });
    for (let at = 111; at < 2111; at += 100) {
      flows.client({ seq: at, ack: 521, payload: 'z'.repeat(100), window: 1000 });
      flows.server({ seq: 521, ack: at + 100, window: 1000 });
    }
    assert.equal(flows.layer.bytes(0).toString(), `${'x'.repeat(10)}${'z'.repeat(2000)}`);
    assert.deepEqual(flows.layer.gaps, [0, 0]);
    assert.equal(flows.table.heldBytes, 0);
    assert.deepEqual([flows.counters.reassembly.beyond_window, flows.counters.reassembly.bad_fin], [1, 1]);
  });

  it('counts when it is acknowledged: then it was the window that was not seen', () => {
    const flows = talking();
    flows.client({ seq: 3111, ack: 521, payload: 'later' });
    flows.client({ seq: 3116, ack: 521, flags: 'F' });
    flows.server({ seq: 521, ack: 3117, timeUs: 2_000_000 });
    flows.table.tick(2_100_000);
    assert.deepEqual(flows.layer.log.slice(2), ['> gap 3000', '> later', '> end fin']);
  });

  it('is followed when all numbers are others: a connection whose start was not seen, no gap of 4 GB', () => {
    const flows = talking();
    for (const payload of ['one', 'two', 'three']) {
      flows.client({ seq: 0x9000_0000 + { one: 0, two: 3, three: 6 }[payload]!, ack: 77, payload });
    }
    assert.deepEqual(flows.layers[1]!.log, ['> two', '> three']);
    assert.equal(flows.counters.reassembly.gap_bytes, undefined);
    assert.deepEqual(flows.counters.connections.ended, { reused: 1 });
  });
});
