import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readEnvironment } from '../../../src/config/environment.ts';
import { parseConfig } from '../../../src/config/load.ts';

const general = 'OTEL_EXPORTER_OTLP_';
const traces = 'OTEL_EXPORTER_OTLP_TRACES_';

function fromEnvironment(environment: Record<string, string>, text = '') {
  const { values, warnings } = readEnvironment(environment);
  return { otlp: parseConfig(text, 'w.yaml', { below: values }).otlp, warnings };
}

const set: [option: string, key: string, of: string, ofTraces: string, value: unknown][] = [
  ['PROTOCOL', 'protocol', 'grpc', 'http/protobuf', 'http/protobuf'],
  ['COMPRESSION', 'compression', 'none', 'gzip', 'gzip'],
  ['TIMEOUT', 'timeoutMs', '5', '7000', 7000],
  ['CERTIFICATE', 'caFile', '/a', '/b', '/b'],
  ['CLIENT_CERTIFICATE', 'certFile', '/a', '/b', '/b'],
  ['CLIENT_KEY', 'keyFile', '/a', '/b', '/b'],
  ['INSECURE', 'insecure', 'false', 'TRUE', true],
  ['ENDPOINT', 'endpoint', 'http://a:1', 'http://b:2/x', 'http://b:2/x'],
];

for (const [option, key, ofAll, ofTraces, value] of set) {
  test(`${option}: the one for traces goes before the general one, the file before both`, () => {
    const read = (environment: Record<string, string>) =>
      (fromEnvironment(environment).otlp as Record<string, unknown>)[key];
    assert.equal(read({ [general + option]: ofAll, [traces + option]: ofTraces }), value);
    assert.equal(
      read({ [general + option]: ofTraces, [traces + option]: ' ' }),
      read({ [general + option]: ofTraces }),
    );
    assert.notEqual(read({ [general + option]: ofTraces }), undefined);
    const file = { protocol: 'grpc', compression: 'none', timeout_ms: 9, insecure: false };
    const text = `otlp: ${JSON.stringify({ ...file, endpoint: 'http://f:9', ca_file: '/f', cert_file: '/f', key_file: '/f' })}`;
    const ofFile = { ...file, timeoutMs: 9, endpoint: 'http://f:9', caFile: '/f', certFile: '/f', keyFile: '/f' };
    const { otlp } = fromEnvironment({ [traces + option]: ofTraces }, text);
    assert.equal((otlp as Record<string, unknown>)[key], (ofFile as Record<string, unknown>)[key]);
  });
}

test('the general endpoint is a base, the one for traces is used as it is', () => {
  const endpoint = (environment: Record<string, string>) => fromEnvironment(environment).otlp.endpoint;
  for (const [text, general_, own] of [
    ['http://c:4318', 'http://c:4318/v1/traces', 'http://c:4318/'],
    ['http://c:4318/', 'http://c:4318/v1/traces', 'http://c:4318/'],
    ['https://c/otlp', 'https://c/otlp/v1/traces', 'https://c/otlp'],
    ['c:4317', 'c:4317', 'c:4317'],
    ['unix:///run/otlp.sock', 'unix:///run/otlp.sock', 'unix:///run/otlp.sock'],
  ] as const) {
    assert.equal(endpoint({ [`${general}ENDPOINT`]: text }), general_);
    assert.equal(endpoint({ [`${traces}ENDPOINT`]: text }), own);
  }
});

test('headers are joined, decoded, and never quoted when they cannot be used', () => {
  const { otlp, warnings } = fromEnvironment({
    [`${general}HEADERS`]: 'X-Tenant=one, x-both = general ,,authorization=Basic%20c2VjcmV0Cg==',
    [`${traces}HEADERS`]:
      'x-both=traces,broken,x-bin=planted-secret%00,x-planted-bin=AA==,bad name=planted-secret,x=%zz',
  });
  assert.deepEqual(Object.fromEntries(otlp.headers), {
    'x-tenant': 'one',
    'x-both': 'traces',
    authorization: 'Basic c2VjcmV0Cg==',
  });
  assert.equal(warnings.length, 5);
  assert.doesNotMatch(warnings.join('\n'), /planted|broken/);
});

test('variables that cannot be used are warned of, without their values, and left out', () => {
  const { otlp, warnings } = fromEnvironment({
    [`${traces}PROTOCOL`]: 'carrier-pigeon',
    [`${general}PROTOCOL`]: 'http/protobuf',
    [`${general}COMPRESSION`]: 'zstd',
    [`${general}TIMEOUT`]: '1s',
  });
  assert.equal(otlp.protocol, 'http/protobuf');
  assert.equal(otlp.compression, 'none');
  assert.equal(otlp.timeoutMs, 10_000);
  assert.deepEqual(
    warnings.map((warning) => warning.split(':')[0]),
    [`${traces}PROTOCOL`, `${general}COMPRESSION`, `${general}TIMEOUT`],
  );
  assert.equal(fromEnvironment({ [`${general}PROTOCOL`]: 'http/json' }).otlp.protocol, 'http/protobuf');
});

test('copies take nothing from the environment, and their header names stay as they are', () => {
  const { values } = readEnvironment({ [`${general}HEADERS`]: 'authorization=x', [`${general}TIMEOUT`]: '5' });
  const text = 'otlp_copies: [{name: a, endpoint: "http://a", headers: {x_my_tenant: one}}]';
  assert.deepEqual(parseConfig(text, 'w.yaml', { below: values }).otlpCopies, [
    {
      name: 'a',
      endpoint: 'http://a',
      protocol: 'grpc',
      headers: [['x_my_tenant', 'one']],
      compression: 'none',
      timeoutMs: 10_000,
      insecure: false,
    },
  ]);
});

for (const [text, problem] of [
  ['otlp: {headers: {a: [planted]}}', 'w.yaml:1:21: otlp.headers.a: expected a text, found a value that is not shown'],
  [
    'otlp: {headers: {a: "planted\\n"}}',
    'w.yaml:1:21: otlp.headers.a: expected a text of printable ASCII characters, found a value that is not shown',
  ],
  [
    'otlp: {headers: {"a b": planted}}',
    'w.yaml:1:25: otlp.headers.a b: expected the name of a header field, found a value that is not shown',
  ],
  [
    'otlp: {headers: planted}',
    'w.yaml:1:17: otlp.headers: expected a mapping of names to texts, found a value that is not shown',
  ],
  ['otlp: {headers: {a: *planted}}', 'w.yaml: Unresolved alias (the anchor must be set before the alias)'],
  ['otlp_copies: [{name: a}]', 'w.yaml:1:15: otlp_copies[0].endpoint: expected a text, found nothing'],
  [
    'otlp_copies: [{name: a, endpoint: x}, {name: a, endpoint: y}]',
    'w.yaml:1:14: otlp_copies: expected a different name for each, found a list',
  ],
  [
    'otlp_copies: [{name: a/b, endpoint: x}]',
    'w.yaml:1:22: otlp_copies[0].name: expected a name of letters, digits, _ . and -, found "a/b"',
  ],
] as const) {
  test(`what is wrong is said without secrets: ${text}`, () => {
    assert.throws(
      () => parseConfig(text, 'w.yaml'),
      (error: Error) => {
        assert.equal(error.message, problem);
        return true;
      },
    );
  });
}
