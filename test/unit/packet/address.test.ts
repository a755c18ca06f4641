import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import { formatAddress, parseAddress } from '../../../src/packet/address.ts';

test('addresses in text are read as the system reads them', () => {
  const parts = ['', '0', '1', 'ab', 'FFFF', '10000', 'g', '1.2.3.4', '1.2.3', '01.2.3.4', '256.1.1.1', ' 1', '%eth0'];
  const texts = [
    '',
    ':',
    '::',
    ':::',
    '::1',
    '1::',
    '1.2.3.4',
    '0.0.0.0',
    '255.255.255.255',
    '1.2.3.4.5',
    '1.2.3.',
    '::ffff:1.2.3.4',
  ];
  let state = 1;
  const next = (below: number): number => {
    state = (Math.imul(state, 48_271) >>> 0) % 0x7fffffff;
    return state % below;
  };
  for (let i = 0; i < 20_000; i++) {
    const groups = Array.from({ length: next(10) }, () => (next(3) === 0 ? parts[next(parts.length)]! : '1'));
    texts.push(groups.join(':'), groups.join('.'));
  }
  let valid = 0;
  for (const text of texts) {
    // A zone is no part of an address here.
    const version = text.includes('%') ? 0 : isIP(text);
    const bytes = parseAddress(text);
    assert.equal(bytes?.length ?? 0, version === 0 ? 0 : version === 4 ? 4 : 16, text);
    if (bytes === undefined) continue;
    valid++;
    const canonical = formatAddress(bytes, 0, bytes.length);
    if (bytes.length === 4) assert.equal(canonical, text);
    else if (!canonical.includes('.')) assert.equal(`[${canonical}]`, new URL(`http://[${text}]/`).hostname);
  }
  assert.ok(valid > 1000);
});
