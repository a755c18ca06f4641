/** Parts that protocols of requests and answers share: src/protocol/shared. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BUFFER_COST } from '../../../src/memory/cost.ts';
import { EarlyAnswers } from '../../../src/protocol/shared/early.ts';
import { DESYNCHRONISED, IN_SYNC, Recovery, UNCERTAIN } from '../../../src/protocol/shared/recovery.ts';
import { PendingRing } from '../../../src/protocol/shared/ring.ts';

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
