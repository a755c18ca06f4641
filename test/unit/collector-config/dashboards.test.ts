/** What Grafana wants of a dashboard's JSON. Its expressions are tried in test/e2e, on a real Prometheus. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dashboards } from '../../support/backends/dashboards.ts';

const WIDTH = 24;

for (const { file, uid, title, panels, templating } of dashboards) {
  test(`${file}: panels`, () => {
    assert.match(uid, /^[a-z-]{1,40}$/);
    assert.match(title, /^Wirespan: /);
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length, 'ids are unique');
    const taken = new Set<string>();
    for (const { gridPos, title, type, description, datasource, targets } of panels) {
      const { x, y, w, h } = gridPos;
      assert.ok(x >= 0 && w > 0 && x + w <= WIDTH, title);
      for (let row = y; row < y + h; row++) {
        for (let column = x; column < x + w; column++) {
          const place = `${row} ${column}`;
          assert.ok(!taken.has(place), `${title} lies on another panel`);
          taken.add(place);
        }
      }
      if (type === 'row') continue;
      assert.ok(description !== undefined && description !== '', title);
      assert.deepEqual(datasource, { type: 'prometheus', uid: '$' + '{datasource}' }, title);
      assert.ok(targets !== undefined && targets.length > 0, title);
      assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
    }
  });

  test(`${file}: the variables that are used are there`, () => {
    const known = new Set(templating.list.map(({ name }) => name));
    const used = new Set(
      panels.flatMap(({ targets = [] }) =>
        targets.flatMap(({ expr }) => [...expr.matchAll(/\$(\w+)/g)].map(([, name]) => name!)),
      ),
    );
    for (const name of used) assert.ok(name.startsWith('__') || known.has(name), name);
    for (const name of known) assert.ok(name === 'datasource' || used.has(name), `${name} is of no use`);
  });
}
