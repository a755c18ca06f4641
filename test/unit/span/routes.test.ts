import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RouteLearner } from '../../../src/span/route-learner.ts';
import { curl, nginx } from '../../support/spans/fixtures.ts';

const limits = { learnedServices: 2, learnedSegments: 200, learnedSegmentsPerPlace: 10 };

function learner(changes: Partial<typeof limits> = {}) {
  const counts: Record<string, number> = {};
  const routes = new RouteLearner({ ...limits, ...changes }, counts);
  const route = (path: string, statusCode = 200, service = nginx) => routes.routeOf(path, service, statusCode);
  return { route, counts };
}

const names = Array.from({ length: 40 }, (_, i) => `user-${String.fromCharCode(97 + (i % 26))}${i}`);

describe('learned routes', () => {
  it('know an identifier when they see one', () => {
    const { route } = learner();
    for (const id of [
      '17',
      'ORD-20394',
      '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
      'deadbeefdeadbeef',
      'cafe0042',
      'bob@example.org',
      'bob%40example.org',
      'eyJhbGciOiJIUzI1NiJ9xyz4',
      'x'.repeat(65),
    ]) {
      assert.equal(route(`/a/${id}/b`), '/a/{id}/b', id);
    }
    for (const name of ['v1', 'orders', 'decade', 'long-name-of-an-endpoint-v2', 'index.html', '']) {
      assert.equal(route(`/${name}`), `/${name}`);
    }
    assert.equal(route('/a;jsessionid=s3cret'), '/a');
    assert.equal(route(`/${'a/'.repeat(30)}`), `/${'a/'.repeat(15)}a/*`);
    assert.equal(route('*'), '');
    assert.equal(route(''), '');
  });

  it('take a place with many different segments for a parameter, and what follows it together', () => {
    const { route } = learner();
    for (const name of names) {
      route(`/users/${name}/orders`);
      route(`/users/${name}/address`);
    }
    assert.equal(route('/users/somebody/orders'), '/users/{id}/orders');
    assert.equal(route(`/users/${names[0]}/address`), '/users/{id}/address');
    assert.equal(route('/users/somebody'), '/users/{id}');
    assert.equal(route('/products'), '/products');
  });

  it('leave its name to what is common there', () => {
    const { route } = learner();
    for (const name of names) {
      route(`/users/${name}`);
      route('/users/me');
    }
    assert.equal(route('/users/me'), '/users/me');
    assert.equal(route(`/users/${names[0]}`), '/users/{id}');
  });

  it('learn nothing from what was refused: who guesses paths changes no route', () => {
    const { route } = learner();
    route('/orders/17');
    for (const name of names) assert.equal(route(`/${name}/wp-login.php`, 404), '');
    for (const status of [0, 400, 401, 500]) assert.equal(route('/orders/new/x', status), '');
    assert.equal(route('/orders/18', 404), '/orders/{id}');
    assert.equal(route('/orders'), '/orders');
  });

  it('are those of one service', () => {
    const { route, counts } = learner();
    for (const name of names) route(`/${name}`);
    assert.equal(route('/orders', 200, nginx), '/{id}');
    assert.equal(route('/orders', 200, curl), '/orders');
    assert.equal(route('/orders', 200, { name: 'third', attributes: {} }), '');
    assert.equal(route('/orders', 200, { ...nginx, attributes: { ...nginx.attributes } }), '/{id}');
    assert.deepEqual(counts, { routes_services_limit: 1 });
  });

  it('have as many segments as the cap allows; what is beyond is the rest of the path', () => {
    const { route, counts } = learner({ learnedSegments: 12, learnedSegmentsPerPlace: 11 });
    for (const name of names.slice(0, 6)) route(`/${name}/${name}`);
    assert.equal(route('/other/x'), '/*');
    assert.equal(route(`/${names[0]}/x`), `/${names[0]}/*`);
    assert.equal(route(`/${names[0]}/${names[0]}`), `/${names[0]}/${names[0]}`);
    assert.deepEqual(counts, { routes_segments_limit: 2 });
  });
});
