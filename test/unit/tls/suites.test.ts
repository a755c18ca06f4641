import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SecureVersion } from 'node:tls';
import { keysHeld } from '../../../src/tls/addon.ts';
import {
  ecdsaCertificate,
  type NodeOptions,
  Replay,
  recordNode,
  seededRandom,
  splitRandomly,
} from '../../support/tls/records.ts';

interface Case {
  name: string;
  version: string;
  suite: string;
  options: NodeOptions;
}

const NO_ENCRYPT_THEN_MAC = 1 << 19;
const NO_EXTENDED_MASTER_SECRET = 1;

const VERSIONS: Record<string, SecureVersion> = {
  '1.0': 'TLSv1',
  '1.1': 'TLSv1.1',
  '1.2': 'TLSv1.2',
  '1.3': 'TLSv1.3',
};

function tls12(cipher: string, suite: string, extra: NodeOptions = {}, version = '1.2'): Case {
  const name = VERSIONS[version]!;
  const common = { minVersion: name, maxVersion: name, ciphers: `${cipher}:@SECLEVEL=0` } as const;
  return {
    name: `TLS ${version} ${suite}`,
    version,
    suite,
    options: {
      server: { ...common, dhparam: 'auto', ...extra.server } as NonNullable<NodeOptions['server']>,
      client: { ...common, ...extra.client },
    },
  };
}

function ecdsa(): NodeOptions {
  const { key, cert } = ecdsaCertificate();
  return { server: { key, cert } };
}

function psk(): NodeOptions {
  const key = Buffer.from('0123456789abcdef0123456789abcdef', 'hex');
  return {
    server: { pskCallback: () => key, pskIdentityHint: 'hint' },
    client: { pskCallback: () => ({ psk: key, identity: 'someone' }), checkServerIdentity: () => undefined },
  };
}

function tls13(suite: string): Case {
  // At the default security level OpenSSL refuses the short tag of CCM_8.
  const common = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3', ciphers: `${suite}:DEFAULT:@SECLEVEL=0` } as const;
  return { name: `TLS 1.3 ${suite}`, version: '1.3', suite, options: { server: common, client: common } };
}

function cases(): Case[] {
  const noEtm = { server: { secureOptions: NO_ENCRYPT_THEN_MAC }, client: { secureOptions: NO_ENCRYPT_THEN_MAC } };
  const noEms = { server: { secureOptions: NO_EXTENDED_MASTER_SECRET } };
  const cbc: [string, string][] = [
    ['AES128-SHA', 'TLS_RSA_WITH_AES_128_CBC_SHA'],
    ['AES256-SHA256', 'TLS_RSA_WITH_AES_256_CBC_SHA256'],
    ['ECDHE-RSA-AES128-SHA256', 'TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256'],
    ['ECDHE-RSA-AES256-SHA384', 'TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384'],
    ['DHE-RSA-AES256-SHA', 'TLS_DHE_RSA_WITH_AES_256_CBC_SHA'],
  ];
  return [
    tls13('TLS_AES_128_GCM_SHA256'),
    tls13('TLS_AES_256_GCM_SHA384'),
    tls13('TLS_CHACHA20_POLY1305_SHA256'),
    tls13('TLS_AES_128_CCM_SHA256'),
    tls13('TLS_AES_128_CCM_8_SHA256'),
    tls12('AES128-GCM-SHA256', 'TLS_RSA_WITH_AES_128_GCM_SHA256'),
    tls12('AES256-GCM-SHA384', 'TLS_RSA_WITH_AES_256_GCM_SHA384'),
    tls12('DHE-RSA-AES128-GCM-SHA256', 'TLS_DHE_RSA_WITH_AES_128_GCM_SHA256'),
    tls12('ECDHE-RSA-AES128-GCM-SHA256', 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256'),
    tls12('ECDHE-RSA-AES256-GCM-SHA384', 'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384', noEms),
    tls12('ECDHE-ECDSA-AES256-GCM-SHA384', 'TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384', ecdsa()),
    tls12('ECDHE-RSA-CHACHA20-POLY1305', 'TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256'),
    tls12('DHE-RSA-CHACHA20-POLY1305', 'TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256'),
    tls12('AES128-CCM', 'TLS_RSA_WITH_AES_128_CCM'),
    tls12('AES256-CCM8', 'TLS_RSA_WITH_AES_256_CCM_8'),
    tls12('DHE-RSA-AES256-CCM', 'TLS_DHE_RSA_WITH_AES_256_CCM'),
    tls12('ECDHE-ECDSA-AES128-CCM8', 'TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8', ecdsa()),
    tls12('PSK-AES128-GCM-SHA256', 'TLS_PSK_WITH_AES_128_GCM_SHA256', psk()),
    tls12('PSK-AES128-CBC-SHA', 'TLS_PSK_WITH_AES_128_CBC_SHA', psk()),
    tls12('PSK-AES256-CCM8', 'TLS_PSK_WITH_AES_256_CCM_8', psk()),
    tls12('PSK-CHACHA20-POLY1305', 'TLS_PSK_WITH_CHACHA20_POLY1305_SHA256', psk()),
    tls12('DHE-PSK-AES256-GCM-SHA384', 'TLS_DHE_PSK_WITH_AES_256_GCM_SHA384', psk()),
    tls12('ECDHE-PSK-AES128-CBC-SHA256', 'TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256', psk()),
    tls12('ECDHE-PSK-AES256-CBC-SHA384', 'TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA384', psk()),
    tls12('RSA-PSK-AES256-GCM-SHA384', 'TLS_RSA_PSK_WITH_AES_256_GCM_SHA384', psk()),
    ...cbc.map(([cipher, suite]) => tls12(cipher, suite)),
    ...cbc.map(([cipher, suite]) => {
      const one = tls12(cipher, suite, noEtm);
      return { ...one, name: `${one.name} MAC then encrypt` };
    }),
    tls12('AES128-SHA', 'TLS_RSA_WITH_AES_128_CBC_SHA', {}, '1.1'),
    tls12('ECDHE-RSA-AES256-SHA', 'TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA', noEtm, '1.1'),
    tls12('AES128-SHA', 'TLS_RSA_WITH_AES_128_CBC_SHA', {}, '1.0'),
    tls12('ECDHE-RSA-AES256-SHA', 'TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA', noEtm, '1.0'),
    tls12('ARIA256-GCM-SHA384', 'TLS_RSA_WITH_ARIA_256_GCM_SHA384'),
    tls12('CAMELLIA128-SHA', 'TLS_RSA_WITH_CAMELLIA_128_CBC_SHA'),
  ];
}

describe('every cipher suite, by a real handshake', () => {
  for (const { name, version, suite, options } of cases()) {
    test(name, async () => {
      const recording = await recordNode(options);
      const random = seededRandom(suite.length);
      const forms: [string, typeof recording.chunks][] = [
        ['as recorded', recording.chunks],
        ['byte by byte', splitRandomly(recording.chunks, 1, random)],
        ['pieces of up to 3000 bytes', splitRandomly(recording.chunks, 3000, random)],
      ];
      for (const [form, chunks] of forms) {
        const replay = new Replay();
        replay.store.addKeyLogText(recording.keyLog);
        const outcome = replay.all(chunks).finish();
        assert.deepEqual(outcome.counters.connections.undecryptable, {}, form);
        assert.equal(outcome.counters.connections.decrypted, 1, form);
        assert.equal(outcome.connection.tls?.version, version);
        assert.equal(outcome.connection.tls?.cipherSuite, suite);
        assert.ok(outcome.received[0].equals(recording.sent[0]), `${form}: requests`);
        assert.ok(outcome.received[1].equals(recording.sent[1]), `${form}: responses`);
        assert.deepEqual(outcome.gaps, []);
        assert.equal(keysHeld(), 0, 'keys left');
      }
    });
  }
});
