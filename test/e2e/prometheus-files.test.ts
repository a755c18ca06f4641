/** What we ship for Prometheus and Grafana, judged by promtool. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { dashboards, expressionsOf } from '../support/backends/dashboards.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { root } from '../support/programs/paths.ts';
import { run } from '../support/programs/process.ts';

const folder = join(root, 'collector-config');

test('prometheus.yml and its rules', async () => {
  await run('promtool', ['check', 'config', join(folder, 'prometheus.yml')]);
  await run('promtool', ['check', 'rules', '--lint=all', '--lint-fatal', join(folder, 'wirespan-rules.yaml')]);
});

test('each alert fires when it should, and not else', async () => {
  await run('promtool', ['test', 'rules', join(folder, 'wirespan-rules.test.yaml')]);
});

test('every expression of the dashboards is one', async (t) => {
  const cleanup = cleanupAfter(t);
  const rules = dashboards
    .flatMap((dashboard) => expressionsOf(dashboard, '5m'))
    .map(({ where, expression }, index) => ({ record: `panel_${index}`, expr: expression, labels: { where } }));
  const file = join(await cleanup.temporaryFolder(), 'rules.yml');
  await writeFile(file, JSON.stringify({ groups: [{ name: 'dashboards', rules }] }));
  await run('promtool', ['check', 'rules', file]);
});
