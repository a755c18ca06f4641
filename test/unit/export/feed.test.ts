import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Feed } from '../../../src/export/feed.ts';
import type { ExchangeView } from '../../../src/export/view.ts';
import type { Seen } from '../../../src/export/views.ts';
import type { ReasonCounts } from '../../../src/telemetry/counters.ts';
import { builder, exchange, viewOf } from '../../support/spans/fixtures.ts';

function setUp(limits = { readers: 2, exchangesPerSecond: 10 }) {
  const counts: ReasonCounts = {};
  let made = 0;
  const view = viewOf(exchange(), builder().build(exchange()));
  const seen: Seen = {
    get view() {
      made++;
      return view;
    },
  };
  return { feed: new Feed(counts, limits), counts, seen, made: () => made };
}

describe('the feed of exchanges', () => {
  it('gives each exchange to all readers, and to nobody who has left', () => {
    const { feed, seen } = setUp();
    const got: [ExchangeView[], ExchangeView[]] = [[], []];
    const [first, second] = got.map((list) => feed.subscribe((view) => list.push(view)));
    assert.equal(
      feed.subscribe(() => {}),
      undefined,
      'a third reader is one too many',
    );
    feed.publish(seen);
    first!();
    assert.ok(feed.isRead);
    feed.publish(seen);
    second!();
    second!();
    assert.ok(!feed.isRead);
    assert.deepEqual(
      got.map((list) => list.length),
      [1, 2],
    );
  });

  it('makes no more views than its rate allows, and counts the others', () => {
    const { feed, seen, counts, made } = setUp();
    feed.subscribe(() => {});
    for (let i = 0; i < 15; i++) feed.publish(seen);
    assert.equal(made(), 10);
    assert.deepEqual([counts, feed.missed], [{ rate_limited: 5 }, 5]);
    feed.tick();
    for (let i = 0; i < 3; i++) feed.publish(seen);
    assert.equal(made(), 11);
    for (let i = 0; i < 100; i++) feed.tick();
    for (let i = 0; i < 15; i++) feed.publish(seen);
    assert.equal(made(), 21);
  });

  it('loses a reader that throws, and no other', () => {
    const { feed, seen, counts } = setUp();
    let got = 0;
    feed.subscribe(() => assert.fail('a defect'));
    feed.subscribe(() => got++);
    feed.publish(seen);
    feed.publish(seen);
    assert.equal(got, 2);
    assert.deepEqual(counts, { reader_failed: 1 });
  });
});
