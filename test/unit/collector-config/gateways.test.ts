/** The gateways' configurations agree where they do the same. That they work is tested with a real Collector, in test/e2e. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { root } from '../../support/programs/paths.ts';

interface Gateway {
  processors: Record<string, unknown> & { k8s_attributes: { pod_association: { sources: { from: string }[] }[] } };
  connectors: Record<string, unknown>;
  exporters: Record<string, unknown>;
  service: { pipelines: Record<string, { processors?: unknown }> };
}

const read = (name: string) =>
  parse(readFileSync(join(root, 'collector-config', name), 'utf8'), { merge: true }) as Gateway;
const one = read('agent-to-gateway.yaml');
const balance = read('gateway-balance.yaml');
const sample = read('gateway-sample.yaml');

test('one Collector and many make the same metrics, and send to the same backends', () => {
  assert.deepEqual(sample.connectors, one.connectors);
  assert.deepEqual(sample.exporters, one.exporters);
  assert.deepEqual(sample.service.pipelines.metrics, one.service.pipelines.metrics);
});

test('Kubernetes metadata is the same in both, and never by the connection', () => {
  assert.deepEqual(balance.processors, {
    memory_limiter: one.processors.memory_limiter,
    k8s_attributes: one.processors.k8s_attributes,
  });
  const sources = one.processors.k8s_attributes.pod_association.flatMap((association) => association.sources);
  assert.deepEqual([...new Set(sources.map(({ from }) => from))], ['resource_attribute']);
});

test('the memory limiter stands first', () => {
  for (const { processors } of [one, balance, sample].map(({ service }) => service.pipelines.traces!)) {
    const first = Array.isArray(processors) ? processors[0] : processors;
    assert.match(String(first), /^(?:\$\{env:\w+:-\[)?memory_limiter\b/);
  }
});
