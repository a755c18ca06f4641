import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RouteLearner } from '../../src/span/route-learner.ts';
import { matchesRoute } from '../../src/span/routes.ts';

const limits = { learnedServices: 4, learnedSegments: 60, learnedSegmentsPerPlace: 6 };
const service = { name: 's', attributes: {} };

const segment = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('orders', 'users', 'me', 'v1', '') },
  fc.stringMatching(/^[a-z]{1,3}$/),
  fc.nat().map(String),
  fc.string(),
);
const path = fc.array(segment, { minLength: 1, maxLength: 20 }).map((segments) => `/${segments.join('/')}`);
const requests = fc.array(fc.tuple(path, fc.constantFrom(200, 200, 302, 404, 500)), { maxLength: 400 });

/** How many segments a learner remembers. */
function remembered(learner: RouteLearner): number {
  type Place = { segments?: Map<string, Place>; parameter?: Place };
  const count = ({ segments, parameter }: Place): number =>
    [...(segments?.values() ?? [])].reduce((sum, each) => sum + 1 + count(each), 0) +
    (parameter ? count(parameter) : 0);
  const { services } = learner as unknown as { services: Map<string, { root: Place; segments: number }> };
  return [...services.values()].reduce((sum, { root, segments }) => {
    assert.equal(segments, count(root), 'what it counts is what there is');
    return sum + segments;
  }, 0);
}

test('a learned route fits its path, the same requests yield the same routes, and there are as many as the caps allow', () => {
  fc.assert(
    fc.property(requests, (asked) => {
      const [first, second] = [new RouteLearner(limits, {}), new RouteLearner(limits, {})];
      const routes = new Set<string>();
      for (const [target, status] of asked) {
        const route = first.routeOf(target, service, status);
        assert.equal(second.routeOf(target, { ...service }, status), route);
        assert.ok(remembered(first) <= limits.learnedSegments);
        if (route === '') continue;
        routes.add(route);
        const plain = target.split('/').map((part) => part.split(';')[0]!);
        const pattern = route.split('/').map((part, i) => (part === '{id}' && plain[i] === '' ? '' : part));
        assert.ok(matchesRoute(pattern, plain), `${target}: ${route}`);
      }
    }),
    { numRuns: 200 },
  );
});

test('whatever is asked for, there is a small number of routes in the end', () => {
  const learner = new RouteLearner({ ...limits, learnedSegments: 1000 }, {});
  const last = new Set<string>();
  for (let i = 0; i < 20_000; i++) {
    const word = (i * 7919).toString(36).replace(/\d/g, 'x');
    const route = learner.routeOf(`/shop/${word}/item/${word}z`, service, 200);
    if (i > 10_000) last.add(route);
  }
  assert.deepEqual([...last], ['/shop/{id}/item/{id}']);
});
