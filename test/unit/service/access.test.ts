import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Access, isLoopback } from '../../../src/service/access.ts';
import { parseHead } from '../../../src/service/request.ts';
import { readToken } from '../../../src/service/token.ts';

const TOKEN = 'abcdefghijklmnop0123';
const LOCAL = { host: '127.0.0.1', port: 9464 };
const EVERYWHERE = { host: '', port: 9464 };

function ask(access: Access, ...fields: string[]): number {
  const request = parseHead(['GET /exchanges HTTP/1.1', ...fields].join('\r\n'));
  return access.refuse(request!)?.status ?? 200;
}

test('a token is asked for where there is one, and compared whole', () => {
  for (const address of [LOCAL, EVERYWHERE]) {
    const access = new Access(address, TOKEN);
    assert.equal(access.isShut, false);
    assert.equal(ask(access, 'Host: any.name', `Authorization: Bearer ${TOKEN}`), 200);
    assert.equal(ask(access, 'Host: any.name', `authorization: bearer  ${TOKEN}`), 200);
    const wrong = [
      TOKEN.slice(1),
      `${TOKEN}x`,
      TOKEN.toUpperCase(),
      '',
      `${TOKEN}, Bearer ${TOKEN}`,
      `${TOKEN}\u00e9`,
    ].map((token) => `Authorization: Bearer ${token}`);
    for (const field of [...wrong, `Authorization: Basic ${TOKEN}`, `Cookie: token=${TOKEN}`, 'Host: 127.0.0.1']) {
      assert.equal(ask(access, field), 401, field);
    }
    assert.equal(ask(access, `Authorization: Bearer ${TOKEN}`, `Authorization: Bearer ${TOKEN}`), 401);
  }
  const { fields, body } = new Access(LOCAL, TOKEN).refuse(parseHead('GET / HTTP/1.1')!)!;
  assert.deepEqual(fields, { 'www-authenticate': 'Bearer realm="wirespan"' });
  assert.doesNotMatch(body, new RegExp(TOKEN));
  const wrong = new Access(LOCAL, TOKEN).refuse(parseHead('GET / HTTP/1.1\r\nAuthorization: Bearer x')!)!;
  assert.equal(wrong.fields?.['www-authenticate'], 'Bearer realm="wirespan", error="invalid_token"');
});

test('without a token nothing is answered but on loopback', () => {
  const access = new Access(EVERYWHERE, undefined);
  assert.ok(access.isShut);
  const refusal = access.refuse(parseHead('GET / HTTP/1.1\r\nHost: 127.0.0.1')!);
  assert.equal(refusal?.status, 403);
  assert.match(refusal!.body, /telemetry\.token_file/);
  for (const host of ['127.0.0.1', '127.8.8.8', '::1', 'localhost']) assert.ok(isLoopback(host), host);
  for (const host of ['', '0.0.0.0', '::', '10.0.0.1', '127.evil.example', 'localhost.evil.example']) {
    assert.ok(!isLoopback(host), host);
  }
});

test('on loopback a name that others can point here is refused', () => {
  const access = new Access(LOCAL, undefined);
  for (const host of ['127.0.0.1:9464', 'localhost', 'LOCALHOST:9464', '[::1]:9464']) {
    assert.equal(ask(access, `Host: ${host}`), 200, host);
  }
  for (const host of ['', 'evil.example:9464', 'localhost.evil.example', '127.0.0.1.evil.example', '[evil]', 'a, b']) {
    assert.equal(ask(access, `Host: ${host}`), 403, host);
  }
  assert.equal(ask(access), 403);
  assert.equal(ask(access, 'Host: localhost', 'Host: evil.example'), 403);
});

test('pages of other origins are refused, with a token and without', () => {
  const authorized = ['Host: localhost:9464', `Authorization: Bearer ${TOKEN}`];
  for (const access of [new Access(LOCAL, TOKEN), new Access(LOCAL, undefined)]) {
    for (const field of [
      'Origin: http://evil.example',
      'Origin: null',
      'Origin: https://localhost:9464',
      'Origin: http://localhost:9465',
      'Sec-Fetch-Site: cross-site',
      'Sec-Fetch-Site: same-site',
    ]) {
      assert.equal(ask(access, ...authorized, field), 403, field);
    }
    const own = ['Origin: http://localhost:9464', 'Sec-Fetch-Site: same-origin'];
    assert.equal(ask(access, ...authorized, ...own), 200);
    assert.equal(ask(access, ...authorized, 'Sec-Fetch-Site: none'), 200);
  }
});

test('the token of a file, without its line feed; what is none is not quoted', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'wirespan-token-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'token');
  writeFileSync(file, `${TOKEN}\n`);
  assert.equal(readToken(file), TOKEN);
  for (const text of ['', 'short', `two words of ${TOKEN}`, `${TOKEN}\n${TOKEN}`]) {
    writeFileSync(file, text);
    assert.throws(() => readToken(file), /^Error: telemetry\.token_file: .* holds no token: expected 16 or more/);
  }
  writeFileSync(file, 'x'.repeat(5000));
  assert.throws(() => readToken(file), /expected a file of at most 4096 bytes/);
  assert.throws(() => readToken(folder), /telemetry\.token_file: cannot read/);
  assert.throws(() => readToken(join(folder, 'none')), /cannot read .*none: there is no such file/);
});
