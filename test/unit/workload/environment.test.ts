import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EnvironmentSearch } from '../../../src/files/environ.ts';
import { parseResourceAttributes, serviceOf } from '../../../src/workload/environment.ts';

const NAMES = ['OTEL_SERVICE_NAME', 'OTEL_RESOURCE_ATTRIBUTES'];

function parseBytes(...pieces: Buffer[]) {
  const search = new EnvironmentSearch(NAMES);
  for (const piece of pieces) if (!search.take(piece)) break;
  return serviceOf(search.end());
}

function parse(...entries: string[]) {
  const bytes = Buffer.from(entries.map((entry) => `${entry}\0`).join(''));
  const whole = parseBytes(bytes);
  for (let at = 0; at <= bytes.length; at++) {
    assert.deepEqual(parseBytes(bytes.subarray(0, at), bytes.subarray(at)), whole, `cut at ${at}`);
  }
  return whole;
}

test('the service name', () => {
  assert.equal(parse('A=b', 'OTEL_SERVICE_NAME=shop', 'C=d').serviceName, 'shop');
  assert.equal(parse('OTEL_SERVICE_NAME=first', 'OTEL_SERVICE_NAME=second').serviceName, 'first');
  assert.equal(parse('OTEL_SERVICE_NAME=', 'OTEL_RESOURCE_ATTRIBUTES=service.name=listed').serviceName, 'listed');
  assert.equal(parse('OTEL_SERVICE_NAME=shop', 'OTEL_RESOURCE_ATTRIBUTES=service.name=listed').serviceName, 'shop');
  assert.equal(parse('XOTEL_SERVICE_NAME=shop', 'OTEL_SERVICE_NAMES=shop', 'OTEL_SERVICE_NAME').serviceName, undefined);
});

test('resource attributes, without the service name', () => {
  assert.deepEqual(
    parse('OTEL_RESOURCE_ATTRIBUTES=service.name=x,service.version=1%2C2, deployment.environment.name = prod,')
      .attributes,
    { 'service.version': '1,2', 'deployment.environment.name': 'prod' },
  );
});

test('an error in the list discards all of it', () => {
  for (const list of ['a', 'a=b,c', 'a=%zz', '=x', `a=${'x'.repeat(5000)}`, Array(200).fill('a=b').join(',')]) {
    assert.deepEqual(parseResourceAttributes(list), {}, list.slice(0, 40));
  }
});

test('nothing else of the environment leaves the parser', () => {
  const parsed = parse(
    'OTEL_EXPORTER_OTLP_HEADERS=authorization=secret',
    'DATABASE_PASSWORD=secret',
    'OTEL_SERVICE_NAME=a',
  );
  assert.deepEqual(parsed, { serviceName: 'a', attributes: {} });
});

test('cut at every byte it does not read what lies behind', () => {
  const bytes = Buffer.from('A=b\0OTEL_SERVICE_NAME=shop\0OTEL_RESOURCE_ATTRIBUTES=a=b\0');
  for (let length = 0; length <= bytes.length; length++) {
    const { serviceName } = parseBytes(bytes.subarray(0, length));
    const seen = Buffer.from(bytes.subarray(0, length)).toString().split('OTEL_SERVICE_NAME=')[1]?.split('\0')[0];
    assert.equal(serviceName ?? '', seen ?? '', `cut at ${length}`);
  }
});

test('an environment of nothing but NULs, or of the name in every place, costs one search of it', () => {
  for (const piece of [Buffer.alloc(65_536), Buffer.alloc(65_536, 'OTEL_SERVICE_NAME='), Buffer.alloc(65_536, 0x41)]) {
    const begunMs = performance.now();
    assert.equal(parseBytes(...Array.from({ length: 64 }, () => piece)).serviceName, undefined);
    assert.ok(performance.now() - begunMs < 2000);
  }
});

test('a value that is longer than its cap is left out, in one piece or in many', () => {
  const long = Buffer.from(`A=1\0OTEL_SERVICE_NAME=${'x'.repeat(100_000)}\0OTEL_RESOURCE_ATTRIBUTES=a=b\0`);
  assert.deepEqual(parseBytes(long), { serviceName: undefined, attributes: { a: 'b' } });
  const pieces = Array.from({ length: 101 }, (_, index) => long.subarray(index * 1000, index * 1000 + 1000));
  assert.deepEqual(parseBytes(...pieces), { serviceName: undefined, attributes: { a: 'b' } });
});
