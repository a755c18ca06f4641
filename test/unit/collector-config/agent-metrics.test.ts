/** The metrics of the agent that rules and dashboards look for are those that it has, with the labels that they have. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { Histogram } from '../../../src/metric/histogram.ts';
import { toText } from '../../../src/metric/open-metrics.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { LoopDelay } from '../../../src/telemetry/loop-delay.ts';
import { type ObservedOutput, ownMetrics } from '../../../src/telemetry/own-metrics.ts';
import { dashboards, expressionsOf } from '../../support/backends/dashboards.ts';
import { Samples } from '../../support/backends/samples.ts';
import { root } from '../../support/programs/paths.ts';

/** Counts something in every table of reasons. */
function fill(counters: object): void {
  for (const value of Object.values(counters)) {
    if (typeof value !== 'object') continue;
    if (Object.keys(value).length === 0) Object.assign(value, { something: 1 });
    else fill(value);
  }
}

/** Of an agent that has something to say of everything. */
function everything(): Samples {
  const counters = newCounters();
  fill(counters);
  const loopDelay = new LoopDelay(100);
  for (const atMs of [0, 100, 200]) loopDelay.tick(atMs);
  const output: ObservedOutput = {
    ...{ name: 'otlp', type: 'otlp_grpc_span_exporter' },
    ...{ queueSpans: 1, queueSpansLimit: 2, queueBytes: 1, queueBytesLimit: 2, inFlight: 1, inFlightSpans: 1 },
    ...{ retries: 1, spoolSpans: 1, spoolBytes: 1, spoolRecovered: 1, spoolDamagedBytes: 1, exported: 1 },
    durations: new Map([['', new Histogram([1], false)]]),
    dropped: { queue_full: 1, rejected: 1 },
    rejections: { 'too old': 1 },
  };
  const group = ownMetrics(
    counters,
    {
      lost: [{ packet_ring_full: 1 }],
      rings: { packets: { waiting: 1, size: 2 } },
      outputs: [output],
      informers: [{ name: 'pods', synced: true, connected: true, restarts: 0, objects: 1 }],
      probedFiles: 1,
      tables: {},
      memory: { bytes: 1000, limitBytes: 2000 },
      loopDelay,
      startUnixUs: 0,
    },
    {},
  );
  return new Samples(toText([group], {}, 'text'));
}

interface Rules {
  groups: { rules: { expr: string }[] }[];
}
const rules = parse(readFileSync(join(root, 'collector-config', 'wirespan-rules.yaml'), 'utf8')) as Rules;
const expressions = [
  ...rules.groups.flatMap((group) => group.rules.map(({ expr }) => expr)),
  ...dashboards.flatMap((dashboard) => expressionsOf(dashboard, '5m').map(({ expression }) => expression)),
].join('\n');

/** What Prometheus adds to every series. */
const ADDED = ['job', 'instance', 'le'];

test('metrics and labels', () => {
  const samples = everything();
  const used = [...expressions.matchAll(/\b((?:wirespan|otel_sdk|process|nodejs)_\w+)(?:\{([^}]*)\})?/g)];
  const names = new Set(used.map(([, name]) => name!));
  assert.ok(names.size > 25, `${names.size} names`);
  for (const [, name, selector = ''] of used) {
    const found = samples.of(name!);
    assert.ok(found.length > 0, `the agent has no ${name}`);
    const labels = new Set(found.flatMap((sample) => Object.keys(sample.labels)));
    for (const [, label] of selector.matchAll(/(\w+)(?:=|!)/g))
      assert.ok(labels.has(label!) || ADDED.includes(label!), `${name} has no label ${label}`);
  }
});
