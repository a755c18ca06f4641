import assert from 'node:assert/strict';
import type { Layer } from '../../../src/flow/connection.ts';
import { type Account, unlimitedMemory } from '../../../src/memory/budget.ts';

/** An account for one layer under test, in a budget of its own. */
export function newAccount(): Account {
  return unlimitedMemory().open();
}

/**
 * From now on each call of the layer is followed by a look at its account: what it says that it holds is charged, and nothing is once it is
 * closed.
 *
 * @returns the layer
 */
export function accountable<T extends Layer>(layer: T, account: Account): T {
  const check = (): void => {
    assert.ok(account.plain >= 0 && account.shared >= 0, `charged ${account.plain} and ${account.shared}`);
    const { heldBytes } = layer as { heldBytes?: number };
    if (heldBytes !== undefined) assert.ok(account.plain >= heldBytes, `${heldBytes} held, ${account.plain} charged`);
  };
  const { data, gap, end, close } = layer;
  layer.data = (...parameters) => {
    data.apply(layer, parameters);
    check();
  };
  layer.gap = (...parameters) => {
    gap.apply(layer, parameters);
    check();
  };
  layer.end = (...parameters) => {
    end.apply(layer, parameters);
    check();
  };
  layer.close = (...parameters) => {
    close.apply(layer, parameters);
    assert.equal(account.plain, 0, 'what was charged is released at the end');
    assert.equal(account.shared, 0, 'what was shared is released at the end');
  };
  return layer;
}
