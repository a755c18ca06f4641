/** Alerts say what to do, and each is tested both ways. That they do what they say is tested in test/e2e, with promtool and Prometheus. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { parse } from 'yaml';
import { hastened } from '../../support/backends/prometheus.ts';
import { root } from '../../support/programs/paths.ts';

const read = (name: string) => readFileSync(join(root, 'collector-config', name), 'utf8');

interface Rule {
  alert?: string;
  record?: string;
  expr: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}
const text = read('wirespan-rules.yaml');
const alerts = (parse(text) as { groups: { rules: Rule[] }[] }).groups
  .flatMap(({ rules }) => rules)
  .filter(({ alert }) => alert !== undefined);
const samples = (
  parse(read('wirespan-rules.test.yaml')) as {
    tests: { promql_expr_test: { exp_samples: { labels: string }[] }[] }[];
  }
).tests.flatMap(({ promql_expr_test }) => promql_expr_test.flatMap(({ exp_samples }) => exp_samples));

suite('alerts', () => {
  for (const { alert, labels, annotations } of alerts) {
    test(`${alert}: words for people, a test`, () => {
      assert.match(labels?.severity ?? '', /^(?:info|warning|critical)$/);
      const firing = samples.filter(({ labels }) => labels.includes(`alertname="${alert}", alertstate="firing"`));
      assert.ok(firing.length > 0, 'a test sees it firing');
      const known = new Set(firing.flatMap(({ labels }) => [...labels.matchAll(/(\w+)="/g)].map(([, name]) => name!)));
      for (const key of ['summary', 'description', 'runbook']) {
        const words = annotations?.[key] ?? '';
        assert.ok(words.length > 20, key);
        for (const [, name] of words.matchAll(/\$labels\.(\w+)/g)) assert.ok(known.has(name!), `${key}: ${name}`);
      }
      assert.match(annotations!.runbook!, /^1\. .*\n2\. /s);
    });
  }
});

test('the rules run at another speed in tests, and are the same else', () => {
  assert.equal(
    hastened('interval: 30s\n    for: 5m\nexpr: rate(x[5m] offset 1h) > 500 # 5m, 1 d\n', 30),
    'interval: 1000ms\n    for: 10000ms\nexpr: rate(x[10000ms] offset 120000ms) > 500 # 5m, 1 d\n',
  );
  assert.equal(
    hastened(text, 1).replaceAll(/\d+ms/g, 'T'),
    text.replaceAll(/(\[|offset |for: |interval: )\d+[smhd]\b/g, '$1T'),
  );
});
