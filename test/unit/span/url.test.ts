import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseForwarded } from '../../../src/span/url.ts';

const forwarded = (value: string) => parseForwarded(new Map([['forwarded', [value]]]));

describe('Forwarded', () => {
  test('pairs of the first element, quoted or not, with blanks around', () => {
    assert.deepEqual(forwarded('for=192.0.2.60; proto=http ;by=203.0.113.43, for=198.51.100.17;host=no'), {
      address: '192.0.2.60',
      host: '',
      proto: 'http',
    });
    assert.deepEqual(forwarded('For="[2001:db8:cafe::17]:4711";Host="a\\"b,c;d"'), {
      address: '2001:db8:cafe::17',
      host: 'a"b,c;d',
      proto: '',
    });
    assert.equal(forwarded('host=first, host=second').host, 'first');
    assert.equal(forwarded('').host, '');
  });

  test('hostile values take time in proportion to their length', () => {
    const length = 1024 * 1024;
    for (const text of ['a', 'a=', '"', 'for="', 'for="\\', '-;', ' ', ':', '=']) {
      const value = text.repeat(Math.ceil(length / text.length));
      const startMs = performance.now();
      forwarded(value);
      forwarded(`for=${value}`);
      forwarded(`for="${value}`);
      parseForwarded(new Map([['x-forwarded-for', [value]]]));
      // Linear is some milliseconds each, quadratic would be many minutes.
      assert.ok(performance.now() - startMs < 5000, JSON.stringify(text));
    }
  });
});
