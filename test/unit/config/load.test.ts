import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ConfigError, loadConfig, parseConfig } from '../../../src/config/load.ts';

/** A file, and what is said of it. */
const wrong: readonly (readonly [string, readonly string[]])[] = [
  [
    'capture:\n  ring_mb: 3\n  poll_ms: "fast"\n',
    [
      'w.yaml:2:3: unknown key "ring_mb" in capture; did you mean "ring_mib"?',
      'w.yaml:3:12: capture.poll_ms: expected a whole number from 1 to 1000, found "fast"',
    ],
  ],
  [
    'zzzz: 1\n',
    [
      'w.yaml:1:1: unknown key "zzzz"; expected one of outputs, capture, http, grpc, sql, kubernetes, sampling, filters, services, otlp, otlp_copies, otlp_metrics, export, metrics, telemetry, limits, log',
    ],
  ],
  ['\n\nlog: {level: loud}\n', ['w.yaml:3:14: log.level: expected one of error, warn, info, debug, found "loud"']],
  ['log:\n  level:\n', ['w.yaml:2:9: log.level: expected one of error, warn, info, debug, found nothing']],
  ['log: [1]\n', ['w.yaml:1:6: log: expected a mapping of keys to values, found a list']],
  ['- 1\n', ['w.yaml:1:1: the file: expected a mapping of keys to values, found a list']],
  ['capture: {poll_ms: 0}\n', ['w.yaml:1:20: capture.poll_ms: expected a whole number from 1 to 1000, found 0']],
  ['capture: {poll_ms: 1.5}\n', ['w.yaml:1:20: capture.poll_ms: expected a whole number from 1 to 1000, found 1.5']],
  ['capture: {poll_ms: .nan}\n', ['w.yaml:1:20: capture.poll_ms: expected a whole number from 1 to 1000, found null']],
  ['capture: {ring_mib: 48}\n', ['w.yaml:1:21: capture.ring_mib: expected a power of two, found 48']],
  [
    'capture:\n  exclude_ports:\n    - 80\n    - "x"\n',
    ['w.yaml:4:7: capture.exclude_ports[1]: expected a whole number from 1 to 65535, found "x"'],
  ],
  [
    'http: {routes: [a]}\n',
    ['w.yaml:1:17: http.routes[0]: expected a path that starts with /, such as /orders/{id}, found "a"'],
  ],
  [
    'http: {capture_request_headers: [X-A, Cookie]}\n',
    [
      'w.yaml:1:39: http.capture_request_headers[1]: expected a field that is no credential: Authorization, Cookie and the like are never captured, found "Cookie"',
    ],
  ],
  [
    'sql:\n  ignore:\n    - ^BEGIN$\n    - "(unbalanced"\n',
    ['w.yaml:4:7: sql.ignore[1]: expected a regular expression, found "(unbalanced"'],
  ],
  ['sql: {raw_text: 1}\n', ['w.yaml:1:17: sql.raw_text: expected true or false, found 1']],
  ['sql: {min_duration: 5}\n', ['w.yaml:1:7: unknown key "min_duration" in sql; did you mean "min_duration_us"?']],
  [
    'outputs: [csv]\n',
    [
      'w.yaml:1:11: outputs[0]: expected one of otlp, console, otlp-json, otlp-json=FILE, jsonl, jsonl=FILE, none, found "csv"',
    ],
  ],
  [
    'outputs: [console, otlp-json]\n',
    [
      'w.yaml:1:10: outputs: console and otlp-json both write to standard output: expected otlp-json=FILE, found a list',
    ],
  ],
  ['telemetry: {listen: 9464}\n', ['w.yaml:1:21: telemetry.listen: expected a text, found 9464']],
  [
    'telemetry: {listen: "localhost"}\n',
    ['w.yaml:1:21: telemetry.listen: expected HOST:PORT, such as 127.0.0.1:9464 or :9464, found "localhost"'],
  ],
  [
    'filters: {exclude: [{}, {path: x}, {service: a, kind: b}]}\nsampling: {ratio: 2}\n',
    [
      'w.yaml:1:21: filters.exclude[0]: expected at least one condition, found a mapping',
      'w.yaml:1:32: filters.exclude[1].path: expected a path that starts with /, such as /orders/{id}, found "x"',
      'w.yaml:1:49: unknown key "kind" in filters.exclude[2]; expected one of namespace, service, path, method, database, min_duration_us, max_duration_us, failed',
      'w.yaml:2:19: sampling.ratio: expected a number from 0 to 1, found 2',
    ],
  ],
  ['log: {level: info, level: debug}\n', ['w.yaml:1:20: Map keys must be unique']],
  ['limits: {connections: 400000}\n', ['w.yaml: limits: connections <= workload_sockets does not hold']],
  ['log: *nowhere\n', ['w.yaml: Unresolved alias (the anchor must be set before the alias)']],
];

for (const [text, problems] of wrong) {
  test(`wrong: ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => parseConfig(text, 'w.yaml'),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.deepEqual(error.problems, problems);
        return true;
      },
    );
  });
}

test('hostile text ends in a ConfigError or in a configuration', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghi'].map((key, i) => `${key}: &${key} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`).join('\n')}\n`;
  for (const text of [
    '{',
    '[',
    '\t',
    '---\n---\n',
    '%YAML 9\n',
    'a: b: c',
    '? [a]\n: b',
    '!!js/function x',
    '\0',
    bomb,
    '__proto__: {a: 1}',
  ]) {
    try {
      parseConfig(text, 'w.yaml');
    } catch (error) {
      assert.ok(error instanceof ConfigError, `${JSON.stringify(text.slice(0, 40))}: ${String(error)}`);
    }
  }
});

test('many problems are cut short, and how many is said', () => {
  const text = Array.from({ length: 30 }, (_, n) => `unknown${n}: 1`).join('\n');
  assert.throws(
    () => parseConfig(text, 'w.yaml'),
    (error) =>
      error instanceof ConfigError && error.problems.length === 21 && error.problems[20] === '... and 10 more problems',
  );
});

test('nothing, comments and empty sections give the defaults', () => {
  const defaults = loadConfig(undefined);
  for (const text of ['', '# none\n', 'capture:\nhttp:\n  # routes: [/]\n', '---\n']) {
    assert.deepEqual(parseConfig(text, 'w.yaml'), defaults, JSON.stringify(text));
  }
  assert.equal(defaults.capture.ringMib, 32);
  assert.equal(defaults.limits.tlsPendingBytesPerConnection, 1024 * 1024);
  assert.deepEqual(defaults.outputs, []);
});

test('values arrive under the names of the program, header names in lower case', () => {
  const config = parseConfig(
    'outputs: [otlp, otlp-json=a.jsonl]\ncapture: {exclude_ports: [9000]}\nhttp: {capture_response_headers: [X-Request-Id]}\nlimits: {reassembly_hole_us: 5}\n',
    'w.yaml',
  );
  assert.deepEqual(config.outputs, ['otlp', 'otlp-json=a.jsonl']);
  assert.deepEqual(config.capture.excludePorts, [9000]);
  assert.deepEqual(config.http.captureResponseHeaders, ['x-request-id']);
  assert.equal(config.limits.reassemblyHoleUs, 5);
});

test('patterns arrive compiled, also when the file is merged with other layers', () => {
  const { sql } = parseConfig('sql: {ignore: ["^begin$"], min_duration_us: 5}\n', 'w.yaml', {
    above: { outputs: ['none'] },
  });
  assert.deepEqual(
    sql.ignore.map((pattern) => [pattern.test('BEGIN'), pattern.test('BEGIN;')]),
    [[true, false]],
  );
  assert.deepEqual(
    { ...sql, ignore: [] },
    {
      rawText: false,
      maxTextBytes: 2048,
      ignore: [],
      minDurationUs: 5,
      captureReturnedRows: true,
      captureOperationAndCollection: false,
    },
  );
});

test('the file goes before what is below it, and behind what is above it', () => {
  const config = parseConfig('log: {level: warn}\noutputs: [none]\n', 'w.yaml', {
    below: { log: { level: 'error', format: 'json' }, outputs: ['otlp'], export: { batch_spans: 7 } },
    above: { outputs: ['console'] },
  });
  assert.deepEqual(config.log, { level: 'warn', format: 'json' });
  assert.deepEqual(config.outputs, ['console']);
  assert.equal(config.export.batchSpans, 7);
});

test('files that cannot be read', () => {
  const directory = mkdtempSync(join(tmpdir(), 'config-'));
  try {
    const latin1 = join(directory, 'latin1.yaml');
    writeFileSync(latin1, Buffer.from([0x23, 0xe9]));
    const large = join(directory, 'large.yaml');
    writeFileSync(large, '#'.repeat(1024 * 1024 + 1));
    assert.throws(() => loadConfig(join(directory, 'none.yaml')), /none\.yaml: cannot be read: there is no such file/);
    assert.throws(() => loadConfig(directory), /cannot be read: it is a folder, not a file/);
    assert.throws(() => loadConfig(latin1), /is not UTF-8 text/);
    assert.throws(() => loadConfig(large), /is larger than 1048576 bytes/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
