import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Account, Charge, type Holder, MemoryBudget } from '../../../src/memory/budget.ts';

class Thing implements Holder {
  readonly kind = 'thing';
  readonly account: Account;
  givenUp = 0;
  /** What is left after it was given up. */
  rest: number;

  constructor(budget: MemoryBudget, bytes: number, rest = 0) {
    this.account = budget.open(this);
    this.account.charge(bytes);
    this.rest = rest;
  }

  giveUp(): void {
    this.givenUp++;
    this.account.charge(this.rest - this.account.plain);
  }
}

describe('MemoryBudget', () => {
  it('gives up the largest, not the newest, and no more than it has to', () => {
    const counts = {};
    const budget = new MemoryBudget(1_000_000, counts);
    const things = [300_000, 500_000, 90_000, 4000].map((bytes) => new Thing(budget, bytes));
    assert.equal(budget.isExceeded, false);
    assert.equal(budget.relieve(1), false);
    const newest = new Thing(budget, 200_000);
    assert.equal(budget.isExceeded, true);
    assert.equal(budget.relieve(1), true);
    assert.deepEqual(
      things.map((thing) => thing.givenUp),
      [0, 1, 0, 0],
    );
    assert.equal(newest.givenUp, 0);
    assert.equal(budget.bytes, 594_000);
    assert.deepEqual(counts, { thing: 1 });
    assert.equal(budget.takePeak(), 1_094_000);
    assert.equal(budget.takePeak(), 594_000);
  });

  it('gives up several when one is not enough, the largest first', () => {
    const budget = new MemoryBudget(1000);
    const things = Array.from({ length: 20 }, (_, i) => new Thing(budget, 100 + 10 * i, 5));
    budget.relieve(1);
    assert.ok(budget.bytes <= 1000);
    const spared = things.filter(({ givenUp }) => givenUp === 0);
    assert.ok(spared.length > 0);
    assert.ok(things.every((thing) => thing.givenUp === 1 || thing.account.bytes <= 1024));
  });

  it('follows those that have shrunk since', () => {
    const budget = new MemoryBudget(1_000_000);
    const first = new Thing(budget, 900_000);
    first.account.charge(-890_000);
    const second = new Thing(budget, 600_000);
    new Thing(budget, 500_000);
    budget.relieve(1);
    assert.equal(first.givenUp, 0);
    assert.equal(second.givenUp, 1);
  });

  it('ends though a holder cannot let go, and asks it again once it has grown', () => {
    const budget = new MemoryBudget(1000);
    const stubborn = new Thing(budget, 5000, 5000);
    budget.relieve(1);
    budget.relieve(2);
    assert.equal(stubborn.givenUp, 1);
    stubborn.account.charge(5000);
    stubborn.rest = 10_000;
    budget.relieve(3);
    assert.equal(stubborn.givenUp, 2);
  });

  it('counts what cannot be given up', () => {
    const budget = new MemoryBudget(1000);
    const fixed = budget.open();
    const thing = new Thing(budget, 400);
    fixed.charge(700);
    budget.relieve(1);
    assert.equal(thing.givenUp, 1);
    assert.equal(budget.bytes, 700);
  });

  it('counts what is shared once, and finds the holder of most of it', () => {
    const budget = new MemoryBudget(1_000_000);
    const shared = {};
    const things = [new Thing(budget, 10), new Thing(budget, 20)];
    for (const { account } of things) account.retain(shared, 100_000);
    assert.ok(budget.bytes < 101_000);
    assert.equal(budget.largest(), things[1]!.account);
    things[0]!.account.release(shared, 100_000);
    assert.ok(budget.bytes > 100_000, 'the other one still holds it');
    things[1]!.account.release(shared, 100_000);
    assert.equal(budget.bytes, 30);
    assert.equal(budget.sharedCount, 0);
  });

  it('takes no charge once an account is closed', () => {
    const budget = new MemoryBudget(1000);
    const { account } = new Thing(budget, 700);
    const charge = new Charge(account);
    charge.set(100);
    account.close();
    assert.equal(budget.bytes, 0);
    charge.set(0);
    account.charge(5);
    assert.equal(budget.bytes, 0);
    assert.equal(budget.largest(), undefined);
  });

  it('property: the sum is that of all accounts, and what is given up is within an eighth of the largest', () => {
    const step = fc.tuple(fc.nat(19), fc.integer({ min: -50_000, max: 200_000 }), fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const budget = new MemoryBudget(1_000_000);
        const things = Array.from({ length: 20 }, () => new Thing(budget, 0));
        for (const [which, bytes, relieves] of steps) {
          const { account } = things[which]!;
          account.charge(Math.max(bytes, -account.plain));
          const most = Math.max(...things.map((thing) => thing.account.bytes));
          const largest = budget.largest();
          if (most > 0) assert.ok(largest!.bytes >= (most * 7) / 8 || most < 1024);
          if (relieves) {
            budget.relieve(1);
            assert.ok(budget.bytes <= 1_000_000);
          }
          assert.equal(
            budget.bytes,
            things.reduce((sum, thing) => sum + thing.account.bytes, 0),
          );
        }
        for (const { account } of things) account.close();
        assert.equal(budget.bytes, 0);
        assert.equal(budget.largest(), undefined);
      }),
    );
  });
});
