/** HTTP/1 within TLS 1.2 and 1.3: nginx, and the key logs of its clients. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { join } from 'node:path';
import { startNginx } from '../../support/http/nginx.ts';
import { selfSigned } from '../../support/programs/certificate.ts';
import { run } from '../../support/programs/process.ts';
import { LINK_ETHERNET, LINK_IPV4, pcapFile, pcapngFile } from '../../support/wire/capture-files.ts';
import { FIN, type Recording, record, SYN, segmentOf, underLink } from './recorder.ts';

/**
 * Two connections without anything but their data: no SYN, no FIN, no bare ACK. Their secrets stand in the file, before each. The server's
 * certificate is longer than a segment.
 */
const secretsInFile: Recording = {
  name: 'tls12-secrets-in-file.pcapng.gz',
  async make(cleanup) {
    const names = Array.from({ length: 20 }, (_, i) => `DNS:number-${i}.of-the-shop.example`);
    const { certFile, keyFile } = await selfSigned(cleanup, 'rsa', names);
    const nginx = await startNginx(cleanup, {
      server: `ssl_certificate ${certFile}; ssl_certificate_key ${keyFile};`,
    });
    const folder = await cleanup.temporaryFolder();
    const keyLogs = ['first', 'second'].map((name) => join(folder, name));
    const all = await record(cleanup, nginx.tls12Port, async () => {
      for (const file of keyLogs) {
        const words = ['-skI', '--tls-max', '1.2', '--ciphers', 'ECDHE-RSA-AES128-GCM-SHA256'];
        await run('curl', [...words, `https://127.0.0.1:${nginx.tls12Port}/hello`], { env: { SSLKEYLOGFILE: file } });
      }
    });
    const segments = all
      .map(segmentOf)
      .filter(({ flags, payload }) => (flags & (SYN | FIN)) === 0 && payload.length > 0);
    const frames = underLink(
      segments.map(({ frame }) => frame),
      [],
    );
    // A ClientHello begins each connection.
    const starts = segments.flatMap(({ payload }, at) => (payload[0] === 22 && payload[5] === 1 ? [at] : []));
    const secrets = new Map<number, string>();
    for (const [i, at] of starts.entries()) secrets.set(at, await readFile(keyLogs[i]!, 'utf8'));
    return { file: pcapngFile(frames, LINK_IPV4, secrets) };
  },
};

/** What a client asks for: a path, and its ETag when it has the file already. */
type Ask = readonly [path: string, known?: boolean];

/** Node's client asks nginx for files over one connection, and writes down the secrets. */
function filesOver(
  version: '1.2' | '1.3',
  name: string,
  files: Record<string, number>,
  asks: readonly Ask[],
): Recording {
  return {
    name,
    async make(cleanup) {
      const nginx = await startNginx(cleanup, { files });
      const port = version === '1.2' ? nginx.tls12Port : nginx.tls13Port;
      const secrets: string[] = [];
      const agentOf = (): https.Agent => new https.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
      const get = async (agent: https.Agent, path: string, headers: Record<string, string>): Promise<string> => {
        const request = https.get({ host: '127.0.0.1', port, path, agent, headers });
        const [response] = (await once(request, 'response')) as [IncomingMessage];
        response.resume();
        await once(response, 'end');
        return response.headers.etag ?? '';
      };
      const before = agentOf();
      const tags = new Map<string, string>();
      for (const [path] of asks) tags.set(path, await get(before, path, {}));
      before.destroy();
      const agent = agentOf().on('keylog', (line: Buffer) => secrets.push(line.toString()));
      const frames = await record(cleanup, port, async () => {
        for (const [path, known] of asks) await get(agent, path, known ? { 'If-None-Match': tags.get(path)! } : {});
        agent.destroy();
      });
      return { file: pcapFile(frames, LINK_ETHERNET), keyLog: secrets.join('') };
    },
  };
}

/** Lengths in bytes: what is encrypted does not shrink. */
const PAGE = {
  'page.js': 30_000,
  'style.css': 9000,
  ...Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`icon-${i}.svg`, 600 + 170 * i])),
};
const PAGE_ASKS: readonly Ask[] = [
  ...Object.keys(PAGE)
    .slice(0, 9)
    .map((file): Ask => [`/files/${file}`]),
  ['/files/page.js', true],
  ...Object.keys(PAGE)
    .slice(9)
    .map((file): Ask => [`/files/${file}`]),
  ['/files/style.css', true],
];

const tls12 = filesOver('1.2', 'tls12-key-log.pcap.gz', PAGE, PAGE_ASKS);
const tls13 = filesOver('1.3', 'tls13-key-log.pcap.gz', { a: 20_000, b: 700 }, [
  ['/files/a'],
  ['/hello'],
  ['/files/b'],
  ['/missing/c'],
  ['/files/b', true],
  ['/orders/7'],
]);

export const TLS_RECORDINGS: readonly Recording[] = [secretsInFile, tls12, tls13];
