import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Addresses } from '../../src/workload/kubernetes/addresses.ts';

/*
 * Pods take turns at a few addresses. What the API server says of them comes late, cut to whole seconds, and in the order in which it
 * comes. Every connection is that of the pod that had the address when it began, or nobody's: never another pod's.
 *
 * One thing is presumed: that a pod's end is known before its successor, which has to be made ready first, has been asked something. The
 * successor's own address may be known long after it was in use.
 */

interface Turn {
  /** Between the end of the pod before and the address's next use, at least a container's start. */
  readonly pauseMs: number;
  readonly lifeMs: number;
  /** The API server tells of the address, and of the end, so much later. */
  readonly startLagMs: number;
  readonly endLag: number;
  /** Connections, by the part of its life in which they begin; and how long after that their span is made. */
  readonly connections: readonly { readonly at: number; readonly lagMs: number }[];
}

const turn: fc.Arbitrary<Turn> = fc.record({
  pauseMs: fc.integer({ min: 50, max: 5000 }),
  lifeMs: fc.integer({ min: 1, max: 20_000 }),
  startLagMs: fc.integer({ min: 0, max: 4000 }),
  endLag: fc.integer({ min: 0, max: 990 }).map((n) => n / 1000),
  connections: fc.array(
    fc.record({
      at: fc.integer({ min: 0, max: 1000 }).map((n) => n / 1000),
      lagMs: fc.integer({ min: 0, max: 30_000 }),
    }),
    { maxLength: 5 },
  ),
});

interface Step {
  readonly atMs: number;
  readonly run: () => void;
}

const floored = (ms: number) => Math.floor(ms / 1000) * 1000;

function play(turnsByAddress: readonly (readonly Turn[])[], retainMs: number): { right: number; unknown: number } {
  const addresses = new Addresses<string>(retainMs, 10_000);
  const steps: Step[] = [];
  const seen = { right: 0, unknown: 0 };
  for (const [n, turns] of turnsByAddress.entries()) {
    const address = `10.0.0.${n}`;
    let nowMs = 1_700_000_000_000 + n * 7;
    for (const [i, { pauseMs, lifeMs, startLagMs, endLag, connections }] of turns.entries()) {
      const pod = `${address} ${i}`;
      const fromMs = nowMs + pauseMs;
      const toMs = fromMs + lifeMs;
      // The kubelet notes a pod's start before it asks for an address, and its end before the address is free.
      const sinceMs = floored(fromMs - pauseMs / 2);
      const knownMs = fromMs + startLagMs;
      const endKnownMs = toMs + endLag * (turns[i + 1]?.pauseMs ?? 1);
      // Of a pod that ended so soon, all is told at once.
      const toldMs = Math.min(knownMs, endKnownMs);
      steps.push({ atMs: toldMs, run: () => addresses.claim(address, pod, sinceMs, toldMs) });
      steps.push({ atMs: endKnownMs, run: () => addresses.release(address, pod, floored(toMs), endKnownMs) });
      for (const { at, lagMs } of connections) {
        const begunMs = fromMs + at * lifeMs;
        steps.push({
          atMs: begunMs + lagMs,
          run: () => {
            const found = addresses.find(address, begunMs);
            if (found !== undefined)
              assert.equal(found, pod, `begun ${begunMs - fromMs} ms after the start of ${lifeMs} ms`);
            if (found === undefined) seen.unknown++;
            else seen.right++;
          },
        });
      }
      nowMs = toMs;
    }
  }
  steps.sort((a, b) => a.atMs - b.atMs);
  for (const { atMs, run } of steps) {
    addresses.tick(atMs);
    run();
  }
  return seen;
}

test('a connection is its own pod’s or nobody’s, over thousands of pods at a few addresses', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(turn, { maxLength: 40 }), { minLength: 1, maxLength: 4 }),
      (turns) => void play(turns, 300_000),
    ),
    { numRuns: 200 },
  );
});

test('most are known', () => {
  const seen = { right: 0, unknown: 0 };
  fc.assert(
    fc.property(fc.array(turn, { minLength: 20, maxLength: 40 }), (turns) => {
      // Pods that live for a while, as nearly all do.
      const { right, unknown } = play(
        [turns.map((each) => ({ ...each, lifeMs: each.lifeMs + 60_000, startLagMs: each.startLagMs / 4 }))],
        300_000,
      );
      seen.right += right;
      seen.unknown += unknown;
    }),
    { numRuns: 50, seed: 1 },
  );
  assert.ok(seen.right > 20 * seen.unknown, JSON.stringify(seen));
});

test('what ended long ago is forgotten', () => {
  const addresses = new Addresses<string>(1000, 3);
  for (let i = 0; i < 10; i++) {
    addresses.claim(`10.0.0.${i}`, `pod ${i}`, 0, 100);
    addresses.release(`10.0.0.${i}`, `pod ${i}`, 200, 200);
  }
  const known = () => Array.from({ length: 10 }, (_, i) => addresses.find(`10.0.0.${i}`, 150)).filter(Boolean);
  assert.deepEqual(known(), ['pod 7', 'pod 8', 'pod 9']);
  addresses.tick(1200);
  assert.deepEqual(known(), []);
  addresses.claim('10.0.0.1', 'next', 1100, 1300);
  assert.deepEqual([addresses.find('10.0.0.1', 1100), addresses.find('10.0.0.1', 1099)], ['next', undefined]);
});
