import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../../../src/config/load.ts';
import { otlpSettings, readTlsFiles, shownEndpoint, usesTls } from '../../../src/export/otlp-settings.ts';

function settings(values: object) {
  return otlpSettings(parseConfig(JSON.stringify({ otlp: values }), 'x').otlp, 'test/0');
}

test('endpoints', () => {
  for (const [values, url, tls] of [
    [{}, 'http://localhost:4317', false],
    [{ protocol: 'http/protobuf' }, 'http://localhost:4318/v1/traces', false],
    [{ endpoint: 'http://c:4317/v1/traces' }, 'http://c:4317/v1/traces', false],
    [{ endpoint: 'https://c:4317', insecure: true }, 'https://c:4317', true],
    [{ endpoint: 'c:4317' }, 'c:4317', true],
    [{ endpoint: 'c:4317', insecure: true }, 'c:4317', false],
    [{ endpoint: 'unix:///run/otlp.sock', insecure: true }, 'unix:///run/otlp.sock', false],
    [{ endpoint: 'https://c', protocol: 'http/protobuf' }, 'https://c/v1/traces', true],
    [{ endpoint: 'https://c/', protocol: 'http/protobuf' }, 'https://c/', true],
    [{ endpoint: 'HTTP://c/otlp?a=b', protocol: 'http/protobuf' }, 'HTTP://c/otlp?a=b', false],
  ] as const) {
    const made = settings(values);
    assert.equal(made.url, url);
    assert.equal(usesTls(made), tls, url);
  }
});

test('an endpoint that is none is not quoted: it may hold a password', () => {
  for (const values of [
    { endpoint: 'ftp://planted@c' },
    { endpoint: 'http://planted:x@' },
    { endpoint: 'planted c:4317' },
    { endpoint: 'c:4318', protocol: 'http/protobuf' },
    { endpoint: 'unix:///planted', protocol: 'http/protobuf' },
  ]) {
    assert.throws(() => settings(values), /^Error: the endpoint is none for (?!.*planted)/);
  }
  assert.equal(shownEndpoint('https://user:planted@c:1/x?key=planted#planted'), 'https://c:1/x');
  assert.equal(shownEndpoint('planted@c:1'), 'c:1');
});

test('certificate and key belong together, and are files that can be read', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'wirespan-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'a.pem');
  writeFileSync(file, '-----BEGIN CERTIFICATE-----\n');
  assert.throws(() => settings({ cert_file: file }), /belong together/);
  const endpoint = 'https://c:1';
  assert.match(String(readTlsFiles(settings({ endpoint, ca_file: file })).ca), /CERTIFICATE/);
  assert.throws(
    () => readTlsFiles(settings({ endpoint, ca_file: join(folder, 'b') })),
    /ca_file .* cannot be read: there is no such file/,
  );
  assert.throws(
    () => readTlsFiles(settings({ endpoint, cert_file: file, key_file: file })),
    /key_file .* holds no private key in PEM form/,
  );
  // Nobody needs them without TLS.
  assert.equal(readTlsFiles(settings({ endpoint: 'http://c:1', ca_file: join(folder, 'b') })).ca, undefined);
});
