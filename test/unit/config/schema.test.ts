import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { configTree, type SchemaNode } from '../../../src/config/describe.ts';
import { readEnvironment } from '../../../src/config/environment.ts';
import { loadConfig } from '../../../src/config/load.ts';
import { configReference } from '../../../src/config/reference.ts';
import { suggest } from '../../../src/config/suggest.ts';
import { defaultAllLimits } from '../../../src/protocol/registry.ts';

function eachKey(visit: (path: string, node: SchemaNode) => void): void {
  const walk = (prefix: string, node: SchemaNode): void => {
    for (const [name, inner] of Object.entries(node.properties ?? {})) {
      const path = prefix === '' ? name : `${prefix}.${name}`;
      visit(path, inner);
      walk(path, inner);
    }
  };
  walk('', configTree);
}

test('every key is described, in the reference, with its default', () => {
  const reference = configReference();
  const bare: string[] = [];
  eachKey((path, node) => {
    if (!node.description) bare.push(path);
    if (node.type !== 'object') assert.match(reference, new RegExp(`^\\| \`${path}\` \\| `, 'm'));
  });
  assert.deepEqual(bare, [], 'describe them in src/config/schema.ts');
  assert.match(reference, /\| `capture\.poll_ms` \| a whole number from 1 to 1000 \| `3` \|/);
});

test('every limit can be configured, and has the default of the program', () => {
  assert.deepEqual(loadConfig(undefined).limits, defaultAllLimits);
});

test('the reference in docs/ is the one that is printed; WIRESPAN_UPDATE=1 prints it there', () => {
  const file = new URL('../../../docs/reference/configuration.md', import.meta.url);
  const block = /(<!-- configuration reference -->\n+)([\s\S]*?)(\n*<!-- end of configuration reference -->)/;
  const page = readFileSync(file, 'utf8');
  const reference = configReference().trim();
  if (process.env.WIRESPAN_UPDATE === '1')
    writeFileSync(
      file,
      page.replace(block, (_, open, __, close) => open + reference + close),
    );
  assert.equal(block.exec(readFileSync(file, 'utf8'))?.[2]?.trim(), reference);
});

test('standard environment variables', () => {
  assert.deepEqual(readEnvironment({}), {
    values: { outputs: [], otlp: {}, telemetry: {}, metrics: {}, export: {}, sampling: {}, log: {}, kubernetes: {} },
    warnings: [],
  });
  assert.deepEqual(
    readEnvironment({
      OTEL_TRACES_EXPORTER: 'otlp, console',
      OTEL_BSP_MAX_QUEUE_SIZE: '100',
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '',
      OTEL_BSP_SCHEDULE_DELAY: ' 250 ',
      OTEL_LOG_LEVEL: 'VERBOSE',
      NODE_NAME: ' node-1 ',
    }),
    {
      values: {
        outputs: ['otlp', 'console'],
        otlp: {},
        telemetry: {},
        metrics: {},
        export: { queue_spans: 100, batch_delay_ms: 250 },
        sampling: {},
        log: { level: 'debug' },
        kubernetes: { node_name: 'node-1' },
      },
      warnings: [],
    },
  );
  const { values, warnings } = readEnvironment({
    OTEL_TRACES_EXPORTER: 'zipkin',
    OTEL_BSP_MAX_QUEUE_SIZE: '-1',
    OTEL_LOG_LEVEL: 'loud',
  });
  assert.deepEqual(values, {
    outputs: [],
    otlp: {},
    telemetry: {},
    metrics: {},
    export: {},
    sampling: {},
    log: {},
    kubernetes: {},
  });
  assert.deepEqual(warnings.map((warning) => warning.split(':')[0]).sort(), [
    'OTEL_BSP_MAX_QUEUE_SIZE',
    'OTEL_LOG_LEVEL',
    'OTEL_TRACES_EXPORTER',
  ]);
});

test('OTEL_TRACES_SAMPLER', () => {
  const read = (OTEL_TRACES_SAMPLER?: string, OTEL_TRACES_SAMPLER_ARG?: string) => {
    const { values, warnings } = readEnvironment({ OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG });
    return [values.sampling, ...warnings.map((warning) => warning.split(':')[0])];
  };
  assert.deepEqual(read(), [{}]);
  assert.deepEqual(read(undefined, 'x'), [{}]);
  assert.deepEqual(read('always_on'), [{ follow_parent: false, ratio: 1 }]);
  assert.deepEqual(read('parentbased_always_on'), [{ follow_parent: true, ratio: 1 }]);
  assert.deepEqual(read('parentbased_always_off'), [{ follow_parent: true, ratio: 0, keep_errors: false }]);
  assert.deepEqual(read('traceidratio', ' 0.5 '), [{ follow_parent: false, ratio: 0.5 }]);
  assert.deepEqual(read('parentbased_traceidratio'), [{ follow_parent: true, ratio: 1 }]);
  for (const wrong of ['half', '2', '-1', 'NaN']) {
    assert.deepEqual(read('traceidratio', wrong), [{ follow_parent: false, ratio: 1 }, 'OTEL_TRACES_SAMPLER_ARG']);
  }
  assert.deepEqual(read('jaeger_remote'), [{}, 'OTEL_TRACES_SAMPLER']);
});

test('what a misspelt word was meant to be', () => {
  const words = ['ring_mib', 'poll_ms', 'exclude_ports', 'level'];
  assert.equal(suggest('ring_mb', words), 'ring_mib');
  assert.equal(suggest('levle', words), 'level');
  assert.equal(suggest('EXCLUDE_PORT', words), 'exclude_ports');
  assert.equal(suggest('something', words), undefined);
  assert.equal(suggest('', words), undefined);
});
