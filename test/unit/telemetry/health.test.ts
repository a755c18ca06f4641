import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Answer } from '../../../src/telemetry/answer.ts';
import { Health, type InformerState, type ReaderProgress } from '../../../src/telemetry/health.ts';

interface Body {
  status: string;
  checks: { name: string; ok: boolean; reason?: string }[];
  outputs?: unknown[];
  informers?: InformerState[];
}

function read({ status, body }: Answer): { status: number; body: Body; failed: Record<string, string | undefined> } {
  const parsed = JSON.parse(body) as Body;
  const failed = Object.fromEntries(parsed.checks.filter(({ ok }) => !ok).map(({ name, reason }) => [name, reason]));
  return { status, body: parsed, failed };
}

test('ready from when everything is watched until it is stopped', () => {
  const health = new Health({ readerProgress: () => ({ waiting: 0, read: 0 }), outputs: () => [{ name: 'otlp' }] });
  let answer = read(health.ready());
  assert.equal(answer.status, 503);
  assert.deepEqual(answer.failed, { programs: 'not attached yet', agent: 'it is being started' });
  assert.equal(answer.body.status, 'not ready');
  assert.equal(read(health.alive()).status, 200);
  health.attached();
  assert.deepEqual(read(health.ready()).failed, { agent: 'it is being started' });
  health.running();
  answer = read(health.ready());
  assert.deepEqual([answer.status, answer.body.status, answer.body.outputs], [200, 'ready', [{ name: 'otlp' }]]);
  health.stopping();
  assert.deepEqual(read(health.ready()).failed, { agent: 'it is being stopped' });
  assert.equal(read(health.alive()).status, 200);
});

test('informers that have not synced make it unready, and say why; one that was synced and fails does not', () => {
  const informers: InformerState[] = [
    { name: 'pods', synced: false, connected: false, lastError: undefined, restarts: 0, objects: 0 },
    { name: 'services', synced: false, connected: false, lastError: '403 Forbidden', restarts: 3, objects: 0 },
    { name: 'nodes', synced: true, connected: false, lastError: 'connection refused', restarts: 2, objects: 3 },
  ];
  const health = new Health({
    readerProgress: () => ({ waiting: 0, read: 0 }),
    informers: () => informers,
    outputs: () => [],
  });
  health.attached();
  health.running();
  const { status, failed, body } = read(health.ready());
  assert.equal(status, 503);
  assert.deepEqual(failed, { 'informer pods': 'not synced yet', 'informer services': '403 Forbidden' });
  assert.deepEqual(body.informers, JSON.parse(JSON.stringify(informers)));
  assert.equal(read(health.alive()).status, 200);
});

test('a reader that does not move while more waits is dead; one that is idle, slow or busy is not', () => {
  let progress: ReaderProgress | undefined = { waiting: 0, read: 5 };
  const health = new Health({ readerProgress: () => progress, outputs: () => [] });
  const observe = (times: number): void => {
    for (let i = 0; i < times; i++) health.observe();
  };
  health.attached();
  health.running();
  observe(100);
  assert.equal(read(health.alive()).status, 200);
  progress = { waiting: 1000, read: 5 };
  observe(9);
  progress = { waiting: 900, read: 105 };
  observe(10);
  assert.equal(read(health.alive()).status, 200);
  observe(1);
  assert.deepEqual(Object.keys(read(health.alive()).failed), ['reader']);
  assert.equal(read(health.ready()).status, 503);
  progress = { waiting: 900, read: 106 };
  observe(1);
  assert.equal(read(health.alive()).status, 200);
  progress = undefined;
  assert.deepEqual(read(health.alive()).failed, { reader: 'it has ended' });
  health.stopping();
  assert.equal(read(health.alive()).status, 200);
});
