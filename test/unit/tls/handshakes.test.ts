import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keysHeld } from '../../../src/tls/addon.ts';
import { recordOpenssl } from '../../support/tls/openssl.ts';
import {
  defaultDialogue,
  ecdsaCertificate,
  type Outcome,
  type Recording,
  Replay,
  recordNode,
  rsaCertificate,
  seededRandom,
  splitRandomly,
} from '../../support/tls/records.ts';

function assertWhole(recording: Recording, outcome: Outcome): void {
  assert.deepEqual(outcome.counters.connections.undecryptable, {});
  assert.equal(outcome.counters.connections.tls, 1);
  assert.equal(outcome.counters.connections.decrypted, 1);
  assert.equal(outcome.received[0].toString('latin1'), recording.sent[0].toString('latin1'));
  assert.equal(outcome.received[1].toString('latin1'), recording.sent[1].toString('latin1'));
  assert.deepEqual(outcome.gaps, []);
  assert.equal(keysHeld(), 0);
}

/** Whole, and cut in several ways. */
function replayAll(recording: Recording): Outcome {
  const random = seededRandom(7);
  let last: Outcome | undefined;
  for (const maxLength of [1 << 20, 1, 7, 1500]) {
    const replay = new Replay();
    replay.store.addKeyLogText(recording.keyLog);
    last = replay.all(splitRandomly(recording.chunks, maxLength, random)).finish();
    assertWhole(recording, last);
  }
  return last!;
}

const only12 = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
const only13 = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' } as const;

describe('forms of the TLS 1.2 handshake', () => {
  test('resumption by ticket', async () => {
    replayAll(await recordNode({ server: only12, client: only12 }, 2));
  });

  test('resumption by session id', async () => {
    const noTicket = 1 << 14; // SSL_OP_NO_TICKET
    const sessions = new Map<string, Buffer>();
    const recording = await recordNode(
      {
        server: { ...only12, secureOptions: noTicket },
        client: { ...only12, secureOptions: noTicket },
        prepare: (server) => {
          server.on('newSession', (id: Buffer, data: Buffer, done: () => void) => {
            sessions.set(id.toString('hex'), data);
            done();
          });
          server.on('resumeSession', (id: Buffer, done: (error: null, data: Buffer | null) => void) => {
            done(null, sessions.get(id.toString('hex')) ?? null);
          });
        },
      },
      2,
    );
    assert.equal(sessions.size, 1);
    replayAll(recording);
  });

  test('renegotiation, several times', async () => {
    const recording = await recordNode({
      server: { ...only12 },
      client: { ...only12 },
      dialogue: async (client, server) => {
        await defaultDialogue(client, server);
        for (let i = 0; i < 2; i++) {
          await new Promise<void>((resolve, reject) => {
            client.socket.renegotiate({ rejectUnauthorized: false }, (error) => (error ? reject(error) : resolve()));
          });
          await client.say(`after renegotiation ${i}`);
          await server.say(`answer ${i}`);
        }
      },
    });
    assert.equal(recording.keyLog.match(/^CLIENT_RANDOM /gm)?.length, 3);
    const outcome = replayAll(recording);
    assert.equal(outcome.keyLog.length, 3);
    const first = recording.keyLog.split(' ')[1];
    assert.equal(outcome.connection.tls?.clientRandom?.toString('hex'), first);
  });

  test('client certificate', async () => {
    const { key, cert } = ecdsaCertificate();
    const server = { ...only12, requestCert: true, rejectUnauthorized: false };
    replayAll(await recordNode({ server, client: { ...only12, key, cert } }));
  });

  test('server name and protocol', async () => {
    const ALPNProtocols = ['h2', 'http/1.1'];
    const outcome = replayAll(
      await recordNode({
        server: { ...only12, ALPNProtocols: ['http/1.1'] },
        client: { ...only12, ALPNProtocols, servername: 'shop.example' },
      }),
    );
    assert.equal(outcome.connection.tls?.serverName, 'shop.example');
    assert.equal(outcome.connection.tls?.alpn, 'http/1.1');
  });
});

describe('forms of the TLS 1.3 handshake', () => {
  test('server name and protocol', async () => {
    const outcome = replayAll(
      await recordNode({
        server: { ...only13, ALPNProtocols: ['http/1.1'] },
        client: { ...only13, ALPNProtocols: ['h2', 'http/1.1'], servername: 'shop.example' },
      }),
    );
    assert.equal(outcome.connection.tls?.serverName, 'shop.example');
    assert.equal(outcome.connection.tls?.alpn, 'http/1.1');
    assert.equal(outcome.connection.tls?.version, '1.3');
  });

  test('HelloRetryRequest', async () => {
    const recording = await recordNode({
      server: { ...only13, ecdhCurve: 'P-384' },
      client: { ...only13, ecdhCurve: 'X25519:P-384' },
    });
    const serverFirst = recording.chunks.find(({ direction }) => direction === 1)!;
    assert.equal(serverFirst.bytes.subarray(11, 15).toString('hex'), 'cf21ad74', 'the server did not ask again');
    replayAll(recording);
  });

  test('resumption with a ticket, (EC)DHE', async () => {
    replayAll(await recordNode({ server: only13, client: only13 }, 2));
  });

  test('client certificate', async () => {
    const { key, cert } = rsaCertificate();
    const server = { ...only13, requestCert: true, rejectUnauthorized: false };
    replayAll(await recordNode({ server, client: { ...only13, key, cert } }));
  });

  test('PSK without (EC)DHE', async () => {
    const psk = ['-psk', '00112233445566778899aabbccddeeff', '-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256'];
    // Without a group in common only the PSK is left.
    const recording = await recordOpenssl({
      server: [...psk, '-nocert', '-allow_no_dhe_kex', '-curves', 'P-384'],
      client: [...psk, '-allow_no_dhe_kex', '-curves', 'P-256'],
    });
    const serverHello = recording.chunks.find(({ direction }) => direction === 1)!.bytes;
    const length = serverHello.readUInt16BE(3);
    assert.ok(length < 100, 'a ServerHello without a key share is short');
    replayAll(recording);
  });

  test('external PSK with (EC)DHE', async () => {
    const psk = ['-psk', '00112233445566778899aabbccddeeff', '-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256'];
    replayAll(await recordOpenssl({ server: [...psk, '-nocert'], client: psk }));
  });

  test('KeyUpdate in both directions', async () => {
    const recording = await recordOpenssl({
      server: ['-tls1_3'],
      client: ['-tls1_3'],
      script: [
        { client: 'before\n' },
        { client: 'K\n', command: true }, // update_requested: both sides change keys
        { client: 'after one\n' },
        { server: 'answer\n' },
        { server: 'k\n', command: true }, // only the sender's
        { server: 'after two\n' },
        { client: 'K\n', command: true },
        { client: 'the end\n' },
      ],
    });
    replayAll(recording);
  });

  test('record padding', async () => {
    replayAll(
      await recordOpenssl({
        server: ['-tls1_3', '-record_padding', '512'],
        client: ['-tls1_3', '-record_padding', '1024'],
      }),
    );
  });

  test('small fragments', async () => {
    const small = ['-max_send_frag', '512'];
    replayAll(await recordOpenssl({ server: ['-tls1_3', ...small], client: ['-tls1_3', ...small] }));
    replayAll(await recordOpenssl({ server: ['-tls1_2', ...small], client: ['-tls1_2', ...small] }));
  });

  test('post-handshake authentication', async () => {
    const { keyFile, certFile } = ecdsaCertificate();
    const recording = await recordOpenssl({
      server: ['-tls1_3', '-verify', '1'],
      client: ['-tls1_3', '-enable_pha', '-key', keyFile, '-cert', certFile],
      script: [
        { client: 'before\n' },
        { server: 'c\n', command: true },
        { server: 'asked\n' },
        { client: 'answered\n' },
      ],
    });
    replayAll(recording);
  });

  test('early data that is accepted', async () => {
    const recording = await recordOpenssl({
      server: ['-tls1_3', '-early_data', '-max_early_data', '16000'],
      client: ['-tls1_3'],
      earlyData: `GET /early HTTP/1.1\r\n\r\n${'early '.repeat(200)}\n`,
    });
    assert.match(recording.keyLog, /CLIENT_EARLY_TRAFFIC_SECRET/);
    const outcome = replayAll(recording);
    assert.ok(outcome.received[0].toString().startsWith('GET /early'));
  });

  test('early data whose secret is not known is reported as lost', async () => {
    const earlyData = `GET /early HTTP/1.1\r\n\r\n${'early '.repeat(200)}\n`;
    const recording = await recordOpenssl({
      server: ['-tls1_3', '-early_data', '-max_early_data', '16000'],
      client: ['-tls1_3'],
      earlyData,
    });
    const replay = new Replay();
    replay.store.addKeyLogText(recording.keyLog.replace(/^CLIENT_EARLY.*\n/gm, ''));
    const outcome = replay.all(recording.chunks).finish();
    assert.deepEqual(outcome.counters.connections.undecryptable, {});
    // The EndOfEarlyData message of 4 bytes is among it.
    assert.deepEqual(outcome.gaps, [{ direction: 0, length: earlyData.length + 4 }]);
    assert.ok(outcome.received[0].equals(recording.sent[0].subarray(earlyData.length)));
    assert.ok(outcome.received[1].equals(recording.sent[1]));
  });

  test('early data that is refused with its session', async () => {
    const recording = await recordOpenssl({
      server: ['-tls1_3', '-early_data', '-max_early_data', '16000'],
      secondServer: ['-tls1_3'],
      client: ['-tls1_3'],
      earlyData: 'GET /early HTTP/1.1\r\n\r\n\n',
      earlyRefused: true,
    });
    replayAll(recording);
  });

  test('early data that is refused, in a session that is resumed', async () => {
    const recording = await recordOpenssl({
      server: ['-tls1_3', '-early_data', '-max_early_data', '16000', '-alpn', 'http/1.1,h2'],
      client: ['-tls1_3'],
      firstClient: ['-alpn', 'h2'],
      // The server prefers the other protocol, and the early data was for the first.
      secondClient: ['-alpn', 'http/1.1,h2'],
      earlyData: 'GET /early HTTP/1.1\r\n\r\n\n',
      earlyRefused: true,
    });
    const outcome = replayAll(recording);
    assert.equal(outcome.connection.tls?.alpn, 'http/1.1');
  });

  test('early data before a HelloRetryRequest', async () => {
    const recording = await recordOpenssl({
      server: ['-tls1_3', '-early_data', '-max_early_data', '16000', '-curves', 'P-384'],
      client: ['-tls1_3', '-curves', 'X25519:P-384'],
      earlyData: `GET /early HTTP/1.1\r\n\r\n${'early '.repeat(200)}\n`,
      earlyRefused: true,
    });
    replayAll(recording);
  });
});
