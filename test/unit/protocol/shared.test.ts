/** Parts that protocols of requests and answers share: src/protocol/shared. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { IncompleteReason } from '../../../src/exchange/exchange.ts';
import { BUFFER_COST } from '../../../src/memory/cost.ts';
import { EarlyAnswers } from '../../../src/protocol/shared/early.ts';
import { type FrameFormat, FrameReader } from '../../../src/protocol/shared/frames.ts';
import { Outcomes } from '../../../src/protocol/shared/outcomes.ts';
import { DESYNCHRONISED, IN_SYNC, Recovery, UNCERTAIN } from '../../../src/protocol/shared/recovery.ts';
import { PendingRing } from '../../../src/protocol/shared/ring.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';

/** A column of numbers, one of texts. */
class NumberRing extends PendingRing {
  private numbers = new Float64Array(4);
  private texts: string[] = new Array<string>(4).fill('');
  reallocated = 0;

  push(number: number): boolean {
    const at = this.add();
    if (at < 0) return false;
    this.numbers[at] = number;
    this.texts[at] = `${number}`;
    return true;
  }

  shift(count = 1): void {
    this.drop(count);
  }

  get cost(): number {
    return this.costOf(10);
  }

  get all(): number[] {
    return Array.from({ length: this.length }, (_, i) => {
      const at = this.placeOf(i);
      assert.equal(this.texts[at], `${this.numbers[at]}`);
      return this.numbers[at]!;
    });
  }

  protected override reallocate(capacity: number): void {
    this.reallocated++;
    this.numbers = this.moved(this.numbers, new Float64Array(capacity));
    this.texts = this.moved(this.texts, new Array<string>(capacity).fill(''));
  }
}

describe('PendingRing', () => {
  test('keeps the order, wherever its head is when it grows', () => {
    for (let head = 0; head < 9; head++) {
      const ring = new NumberRing(64, 4);
      for (let i = 0; i < head; i++) {
        ring.push(-1);
        ring.shift();
      }
      for (let i = 0; i < 40; i++) assert.ok(ring.push(i));
      assert.deepEqual(
        ring.all,
        Array.from({ length: 40 }, (_, i) => i),
      );
      ring.shift(30);
      assert.deepEqual(ring.all, [30, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
    }
  });

  test('refuses what is beyond its limit, and takes again when there is room', () => {
    const ring = new NumberRing(8, 4);
    for (let i = 0; i < 8; i++) assert.ok(ring.push(i));
    assert.equal(ring.push(8), false);
    assert.equal(ring.length, 8);
    ring.shift();
    assert.ok(ring.push(9));
    assert.deepEqual(ring.all, [1, 2, 3, 4, 5, 6, 7, 9]);
  });

  test('costs nothing more until it grows, and is small again once a deep pipeline is answered', () => {
    const ring = new NumberRing(4096, 4);
    for (let i = 0; i < 4; i++) ring.push(i);
    assert.equal(ring.cost, 0);
    for (let i = 0; i < 2000; i++) ring.push(i);
    assert.equal(ring.cost, 2048 * 10);
    ring.shift(2003);
    assert.equal(ring.cost, 2048 * 10);
    ring.shift();
    assert.equal(ring.cost, 0);
    for (let i = 0; i < 100; i++) ring.push(i);
    const { reallocated } = ring;
    while (ring.length > 0) ring.shift();
    assert.equal(ring.reallocated, reallocated);
    ring.push(1);
    ring.clear();
    assert.deepEqual([ring.length, ring.cost], [0, 0]);
  });
});

describe('EarlyAnswers', () => {
  test('gives back copies in their order, once', () => {
    const early = new EarlyAnswers(10_000);
    const bytes = Buffer.from('-one-two-');
    assert.ok(early.isEmpty);
    assert.ok(early.hold(bytes, 1, 4, 20, 10));
    assert.ok(early.hold(bytes, 5, 8, 40, 30));
    bytes.fill(0);
    assert.deepEqual([early.isEmpty, early.heldBytes, early.cost], [false, 6, 6 + 2 * BUFFER_COST]);
    assert.equal(early.first?.firstUs, 10);
    assert.deepEqual(
      early.take().map((each) => [each.bytes.toString(), each.timeUs, each.firstUs]),
      [
        ['one', 20, 10],
        ['two', 40, 30],
      ],
    );
    assert.deepEqual([early.isEmpty, early.heldBytes, early.cost, early.take().length], [true, 0, 0, 0]);
  });

  test('says when more is held than may be, with what each piece costs', () => {
    const early = new EarlyAnswers(2 * BUFFER_COST);
    const bytes = Buffer.from('x');
    assert.equal(early.hold(bytes, 0, 1, 1, 1), true);
    assert.equal(early.hold(bytes, 0, 1, 2, 2), false);
    assert.equal(early.take().length, 2);
    assert.equal(early.hold(bytes, 0, 1, 3, 3), true);
  });
});

describe('Recovery', () => {
  test('names the state of a direction', () => {
    const recovery = new Recovery(1000);
    assert.equal(recovery.stateOf({ synced: true }), IN_SYNC);
    assert.equal(recovery.stateOf({ synced: false }), DESYNCHRONISED);
    recovery.uncertain = true;
    assert.equal(recovery.stateOf({ synced: true }), UNCERTAIN);
    assert.equal(recovery.stateOf({ synced: false }), DESYNCHRONISED);
    recovery.clientFound();
    assert.equal(recovery.stateOf({ synced: true }), IN_SYNC);
  });

  test('a client that waits has its answers when it sends', () => {
    const recovery = new Recovery(1000);
    recovery.serverSent(5000);
    assert.equal(recovery.hasAnswers(5001), true);
  });

  test('a client that pipelines has its answers only after a silence of the server', () => {
    const recovery = new Recovery(1000);
    recovery.pipelines = true;
    recovery.serverSent(5000);
    assert.deepEqual(
      [5999, 6000].map((timeUs) => recovery.hasAnswers(timeUs)),
      [false, true],
    );
    assert.deepEqual(
      [5999, 6000].map((timeUs) => recovery.isQuiet(timeUs)),
      [false, true],
    );
  });

  test('after a gap of its own a client has its answers when the server was heard, or is silent', () => {
    const recovery = new Recovery(1000);
    recovery.serverSent(5000);
    recovery.heardServer = false;
    assert.deepEqual(
      [5999, 6000].map((timeUs) => recovery.hasAnswers(timeUs)),
      [false, true],
    );
    recovery.serverSent(5500);
    assert.equal(recovery.hasAnswers(5501), true);
    recovery.heardServer = false;
    recovery.clientFound();
    assert.equal(recovery.hasAnswers(5501), true);
  });
});

/** A letter, two bytes of the body's length. Of `a` four bytes of the body are kept, of `b` none; there are no others. */
const letters: FrameFormat = {
  headerBytes: 3,
  typeOf: (bytes, at) => bytes[at]!,
  sizeOf: (bytes, at) => (bytes[at] === 0x61 || bytes[at] === 0x62 ? 3 + bytes.readUInt16BE(at + 1) : 0),
  keepOf: (type) => (type === 0x61 ? 4 : 0),
};

/** @returns a message of a letter and a body */
function letter(type: string, body: string): Buffer {
  const bytes = Buffer.from(`${type}..${body}`);
  bytes.writeUInt16BE(body.length, 1);
  return bytes;
}

/** @returns a reader, and what it reports */
function frames(synced = true): { reader: FrameReader; found: string[] } {
  const found: string[] = [];
  const reader: FrameReader = new FrameReader(
    {
      message: (type, bytes, start, end, size) => {
        const kept = bytes.toString('latin1', start, Math.min(end, start + letters.keepOf(type)));
        const damage = reader.damaged ? ' damaged' : '';
        found.push(`${String.fromCharCode(type)}${kept} ${size}@${reader.offset} ${reader.startUs}${damage}`);
      },
      cut: (type, size) => found.push(`cut ${String.fromCharCode(type)} ${size}`),
      malformed: () => found.push('malformed'),
    },
    letters,
    synced,
  );
  return { reader, found };
}

describe('FrameReader', () => {
  const wire = Buffer.concat([
    letter('a', 'abcdef'),
    letter('b', 'xyz'),
    letter('a', ''),
    letter('b', ''),
    letter('a', 'hi'),
  ]);
  const expected = ['aabcd 9@0', 'b 6@9', 'a 3@15', 'b 3@18', 'ahi 5@21'];

  test('finds messages at every split', () => {
    for (let first = 0; first <= wire.length; first++) {
      for (let second = first; second <= wire.length; second++) {
        const { reader, found } = frames();
        reader.feed(wire, 0, first, 1, 1);
        reader.feed(wire, first, second, 1, 1);
        reader.feed(wire, second, wire.length, 1, 1);
        assert.deepEqual(
          found,
          expected.map((each) => `${each} 1`),
        );
        assert.ok(reader.atBoundary);
      }
    }
  });

  test('says when the first byte of a message was seen, and holds no more than is kept', () => {
    const { reader, found } = frames();
    const bytes = letter('a', 'x'.repeat(60_000));
    for (let i = 0; i < bytes.length; i += 1000) {
      reader.feed(bytes, i, Math.min(i + 1000, bytes.length), 10 + i, 5 + i);
      assert.ok(reader.heldBytes <= 4);
    }
    assert.deepEqual(found, ['axxxx 60003@0 5']);
  });

  test('a gap within a message costs what it hits of it, any other the place', () => {
    const passed = frames();
    passed.reader.feed(wire, 0, 11, 1, 1);
    assert.equal(passed.reader.gap(4, 1), false);
    assert.deepEqual(passed.found, ['aabcd 9@0 1']);
    for (const [lost, report] of [
      [wire.subarray(7, 9), 'aabcd 9@0 1'],
      [wire.subarray(4, 6), 'aa 9@0 1 damaged'],
      [wire.subarray(4, 9), 'aa 9@0 1 damaged'],
    ] as const) {
      const { reader, found } = frames();
      const from = lost.byteOffset - wire.byteOffset;
      reader.feed(wire, 0, from, 1, 1);
      assert.equal(reader.gap(lost.length, 1), true);
      reader.feed(wire, from + lost.length, wire.length, 1, 1);
      assert.deepEqual(found, [report, ...expected.slice(1).map((each) => `${each} 1`)]);
    }
    const { reader, found } = frames();
    reader.feed(wire, 0, 5, 1, 1);
    assert.equal(reader.gap(5, 1), false);
    assert.deepEqual([found, reader.synced, reader.heldBytes], [['cut a 9'], false, 0]);
    reader.skip(11, 1);
    reader.resync();
    reader.feed(wire, 21, wire.length, 2, 2);
    assert.deepEqual(found, ['cut a 9', 'ahi 5@21 2']);
  });

  test('what is no message ends reading until `resync`, whole or cut', () => {
    for (const cut of [0, 1, 2]) {
      const { reader, found } = frames();
      const bytes = Buffer.from('c\0\0a\0\0');
      reader.feed(bytes, 0, cut, 1, 1);
      reader.feed(bytes, cut, bytes.length, 1, 1);
      assert.deepEqual([found, reader.synced, reader.streamBytes], [['malformed'], false, 6]);
    }
  });
});

describe('Outcomes', () => {
  test('counts exchanges, and gives up after too many parse errors', () => {
    const counters = newCounters();
    const emitted: { readonly incomplete: IncompleteReason | undefined }[] = [];
    const outcomes = new Outcomes(
      { counters, emit: (exchange: (typeof emitted)[0]) => emitted.push(exchange) },
      'toy',
      2,
    );
    outcomes.emit({ incomplete: undefined });
    outcomes.emit({ incomplete: 'gap' });
    assert.deepEqual([counters.exchanges.toy, counters.incomplete.gap, emitted.length], [2, 1, 2]);
    assert.deepEqual([outcomes.parseError(), outcomes.parseError()], [false, false]);
    assert.equal(counters.connections.givenUp.protocol_error, undefined);
    assert.equal(outcomes.parseError(), true);
    assert.deepEqual([counters.parseErrors.toy, counters.connections.givenUp.protocol_error], [3, 1]);
  });
});
