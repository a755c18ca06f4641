/** Nothing of a connection's secrets is left in the agent's memory, nor in what it maps of the kernel's, a second after its end. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RECORD_SECRET, type SecretRecord } from '../../src/capture/records.ts';
import { walkChunk } from '../../src/capture/walk.ts';
import { openProbes, probeBackend } from '../../src/secrets/native-probes.ts';
import { ProbeManager } from '../../src/secrets/probes.ts';
import { startNginx } from '../support/http/nginx.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';

const PIECE = 1 << 20;
/** Of a secret that lies across two pieces. */
const OVERLAP = 64;

interface Found {
  readonly name: string;
  readonly mapping: string;
}

/** Which of the secrets stand in the readable memory of a process. A page that cannot be read holds none. */
function lookFor(pid: number, secrets: ReadonlyMap<string, Buffer>): { found: Found[]; bytes: number } {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const piece = Buffer.alloc(PIECE + OVERLAP);
  const found: Found[] = [];
  let bytes = 0;
  for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) r\S* \S+ \S+ \S+\s*(.*)/.exec(line);
    if (match === null) continue;
    const end = Number.parseInt(match[2]!, 16);
    for (let at = Number.parseInt(match[1]!, 16); at < end; at += PIECE) {
      let length = 0;
      try {
        length = readSync(memory, piece, 0, Math.min(PIECE + OVERLAP, end - at), at);
      } catch {
        continue; // such as [vvar], or a page of a file that ends before it
      }
      bytes += Math.min(length, PIECE);
      const view = piece.subarray(0, length);
      for (const [name, secret] of secrets) if (view.includes(secret)) found.push({ name, mapping: match[3]! });
    }
  }
  closeSync(memory);
  return { found, bytes };
}

/** Every secret of a key log, by its label and a number. */
function secretsOf(keyLog: string): Map<string, Buffer> {
  const lines = keyLog.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line, i) => {
      const [label, , secret] = line.split(' ');
      return [`${label} ${i}`, Buffer.from(secret!, 'hex')];
    }),
  );
}

after(assertKernelClean);

for (const { version, count } of [
  { version: '1.2', count: 20 },
  { version: '1.3', count: 20 },
] as const) {
  test(`TLS ${version}: no secret is found a second after the connections have ended`, async (t) => {
    const cleanup = cleanupAfter(t);
    const folder = await cleanup.temporaryFolder();
    const nginx = await startNginx(cleanup);
    // What the agent is given by the kernel; a TLS 1.3 handshake secret stands in no key log.
    const probes = openProbes();
    cleanup.add(() => probes.close());
    const manager = new ProbeManager(probeBackend(probes));
    cleanup.add(() => manager.stop());
    await manager.start();
    const agent = await startAgent(cleanup);
    const keyLog = join(folder, 'keys');
    const port = version === '1.2' ? nginx.tls12Port : nginx.tls13Port;
    for (let i = 0; i < count; i++) {
      const url = `https://127.0.0.1:${port}/hello`;
      await run('curl', ['-sk', '--tls-max', version, url], { env: { SSLKEYLOGFILE: keyLog } });
    }
    await agent.waitForSpans(2 * count);
    await sleep(1000);

    const secrets = secretsOf(readFileSync(keyLog, 'latin1'));
    const logged = secrets.size;
    assert.ok(logged >= count, `${logged} secrets in the key log`);
    const records = probes.drain();
    const take = (record: SecretRecord) => secrets.set(`of the kernel ${secrets.size}`, Buffer.from(record.secret));
    const ignore = () => {};
    walkChunk(records, records.length, { packet: ignore, socket: ignore, process: ignore, secret: take });
    assert.ok(secrets.size >= logged + count, `${secrets.size - logged} secrets of record type ${RECORD_SECRET}`);

    const { found, bytes } = lookFor(agent.running.pid, secrets);
    t.diagnostic(`${secrets.size} secrets in ${Math.round(bytes / 1e6)} MB`);
    assert.ok(bytes > 50e6, `only ${bytes} bytes could be read`);
    assert.deepEqual(found, []);
    // The search finds what is there: the path of the requests stands in the spans.
    const control = lookFor(agent.running.pid, new Map([['path', Buffer.from('/hello')]]));
    assert.ok(control.found.length > 0);
    const { stats } = await agent.stop();
    assert.deepEqual([stats.connections.decrypted, stats.packets.lost], [count, 0]);
  });
}
