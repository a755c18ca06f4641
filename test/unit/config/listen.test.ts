import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseListenAddress } from '../../../src/config/listen.ts';

test('addresses to listen on', () => {
  const good = {
    '127.0.0.1:9464': { host: '127.0.0.1', port: 9464 },
    ':1': { host: '', port: 1 },
    'node-1.example:65535': { host: 'node-1.example', port: 65_535 },
    '[::1]:80': { host: '::1', port: 80 },
    '[fe80::1%eth0]:80': { host: 'fe80::1%eth0', port: 80 },
  };
  for (const [text, address] of Object.entries(good)) assert.deepEqual(parseListenAddress(text), address, text);
  for (const text of [
    '',
    ':',
    '9464',
    'localhost',
    '::1:80',
    ':0',
    ':65536',
    ':9464/metrics',
    'http://a:1',
    'a b:1',
    '[x]:1',
  ]) {
    assert.equal(parseListenAddress(text), undefined, text);
  }
});
