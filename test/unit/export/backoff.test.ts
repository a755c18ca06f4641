import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from '../../../src/export/backoff.ts';
import { BatchQueue, type QueuedBatch } from '../../../src/export/batch-queue.ts';

const policy = { initialMs: 100, maxMs: 1000, giveUpMs: 10_000 };

test('waits grow to a most, each up to three tenths shorter', () => {
  for (const [random, factor] of [
    [0, 1],
    [1, 0.7],
  ] as const) {
    const backoff = new Backoff(policy, () => random);
    const waits: number[] = [];
    let nowMs = 0;
    for (let i = 0; i < 8; i++) {
      backoff.failed(nowMs, nowMs, undefined);
      waits.push(Math.round(backoff.waitMs(nowMs)));
      nowMs += backoff.waitMs(nowMs);
    }
    assert.deepEqual(
      waits,
      [100, 150, 225, 337.5, 506.25, 759.375, 1000, 1000].map((ms) => Math.round(ms * factor)),
    );
    assert.equal(backoff.failingMs(nowMs), nowMs);
    assert.equal(backoff.succeeded(), true);
    assert.equal(backoff.isFailing, false);
    assert.equal(backoff.succeeded(), false);
    backoff.failed(nowMs, nowMs, undefined);
    assert.equal(Math.round(backoff.waitMs(nowMs)), 100 * factor);
  }
});

test('a backend that says how long is obeyed, a little longer, and an hour at most', () => {
  const backoff = new Backoff(policy, () => 0.5);
  backoff.failed(0, 0, 5000);
  assert.equal(Math.round(backoff.waitMs(0)), 5250);
  backoff.failed(6000, 6000, 1e12);
  assert.equal(Math.round(backoff.waitMs(6000)), 3_780_000);
  backoff.succeeded();
  // No wait at all is nothing said.
  backoff.failed(7000, 7000, 0);
  assert.equal(Math.round(backoff.waitMs(7000)), 85);
});

test('requests that failed together count once; the longest wait that one asks for holds', () => {
  const backoff = new Backoff(policy, () => 0);
  backoff.failed(0, 10, undefined);
  backoff.failed(1, 11, undefined);
  assert.equal(backoff.waitMs(11), 99);
  backoff.failed(2, 12, 700);
  assert.equal(backoff.waitMs(12), 700);
  backoff.failed(800, 800, undefined);
  assert.equal(backoff.waitMs(800), 150);
});

test('a queue gives the oldest first, and knows when it is over its bounds', () => {
  const batch = (spans: number, firstSentMs = 0): QueuedBatch => ({
    payload: Buffer.alloc(0),
    spans,
    byteLength: spans * 10,
    firstSentMs,
    record: undefined,
  });
  const queue = new BatchQueue(10, 1000);
  const [a, b, c] = [batch(4, 1), batch(3), batch(5)];
  for (const each of [a, b, c]) queue.push(each);
  assert.deepEqual([queue.spans, queue.bytes, queue.length, queue.isOver], [12, 120, 3, true]);
  assert.equal(queue.shift(), a);
  assert.deepEqual([queue.isOver, queue.isFuller(0.5), queue.isFuller(0.8)], [false, true, false]);
  queue.putBack(a);
  assert.equal(
    queue.shiftFirst(({ firstSentMs }) => firstSentMs === 0),
    b,
  );
  assert.equal(
    queue.shiftFirst(({ firstSentMs }) => firstSentMs > 5),
    a,
  );
  assert.equal(queue.shift(), c);
  assert.equal(queue.shift(), undefined);
  assert.deepEqual([queue.spans, queue.bytes], [0, 0]);
  queue.push(batch(101));
  assert.equal(new BatchQueue(1000, 1000).isOver, false);
  assert.equal(queue.isOver, true);
});
