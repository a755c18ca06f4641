/** HTTP/1 in plain text: Node's server, and nginx. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startNginx } from '../../support/http/nginx.ts';
import type { Cleanup } from '../../support/programs/cleanup.ts';
import { run } from '../../support/programs/process.ts';
import { LINK_ETHERNET, pcapFile, pcapngFile } from '../../support/wire/capture-files.ts';
import { lose, type Recording, record, segmentOf, setMtu } from './recorder.ts';

/** Starts a server of Node's, and returns its port. */
async function listening(cleanup: Cleanup, server: http.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanup.add(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** curl sends a body of 34 KB when it may; the server says twice that it may, the second time in the midst of it. */
const interimTwice: Recording = {
  name: 'http-two-interim-responses.pcap.gz',
  async make(cleanup) {
    const server = http.createServer();
    server.on('checkContinue', async (request: http.IncomingMessage, response: http.ServerResponse) => {
      response.writeContinue();
      await once(request, 'readable');
      response.writeContinue();
      request.resume();
      await once(request, 'end');
      response.writeHead(200, { 'Content-Type': 'text/html', Connection: 'close' });
      response.flushHeaders();
      response.end('<p>34 KB of it</p>\n');
    });
    const port = await listening(cleanup, server);
    const body = join(await cleanup.temporaryFolder(), 'upload');
    await writeFile(body, 'What is sent to be kept.\n'.repeat(1380));
    const frames = await record(cleanup, port, async () => {
      const words = ['-s', '-H', 'Expect: 100-continue', '--expect100-timeout', '10', '--limit-rate', '20k'];
      await run('curl', [...words, '--data-binary', `@${body}`, `http://127.0.0.1:${port}/upload`]);
    });
    return { file: pcapFile(frames, LINK_ETHERNET) };
  },
};

const PIPELINED = 40;
/** Whole segments of nginx that do not reach the client, though the capture has them. */
const LOST_ON_THE_WAY = 3;

/** Requests in one write, and nginx's answers, of which some must be sent again. */
const pipelined: Recording = {
  name: 'http-pipelined-retransmissions.pcap.gz',
  async make(cleanup) {
    // While the first answer, which is lost, is not acknowledged, those behind it gather into whole segments.
    const nginx = await startNginx(cleanup, { http: 'tcp_nodelay off;' });
    const requests = Array.from({ length: PIPELINED }, (_, i) => {
      const last = i === PIPELINED - 1;
      const path = i % 7 === 3 ? `/hello?${i}` : `/missing/${'old-'.repeat(i % 5)}page-${i}.html`;
      const agent = `User-Agent: a-scanner-of-links/1.${i} (${'+'.repeat(40)})`;
      return `GET ${path} HTTP/1.1\r\nHost: shop.example\r\n${agent}\r\nConnection: ${last ? 'close' : 'keep-alive'}\r\n\r\n`;
    });
    await lose(cleanup, nginx.plainPort, '100:999', 1);
    await lose(cleanup, nginx.plainPort, '1000:65535', LOST_ON_THE_WAY);
    const frames = await record(cleanup, nginx.plainPort, async () => {
      const socket = connect(nginx.plainPort, '127.0.0.1');
      socket.resume().write(requests.join(''));
      await once(socket, 'close');
    });
    return { file: pcapFile(frames, LINK_ETHERNET) };
  },
};

const REQUESTS = 1000;

/** curl asks nginx for a thousand files over IPv6; head and body of each are a segment. The head of the first is taken out. */
const oneLost: Recording = {
  name: 'http-1000-requests-one-lost-segment.pcap.gz',
  async make(cleanup) {
    const sizes = Array.from({ length: REQUESTS }, (_, i) => [`${i + 1}`, 200 + ((i * 7) % 601)] as const);
    const nginx = await startNginx(cleanup, { files: Object.fromEntries(sizes) });
    await setMtu(9000);
    const all = await record(cleanup, nginx.plainPort, async () => {
      await run('curl', ['-s', `http://\\[::1\\]:${nginx.plainPort}/files/[1-${REQUESTS}]`]);
    });
    const head = all.findIndex((frame) => {
      const { from, payload } = segmentOf(frame);
      return from === nginx.plainPort && payload.length > 0;
    });
    return { file: pcapFile(all.toSpliced(head, 1), LINK_ETHERNET) };
  },
};

/** What an engine that runs containers answers its client, on three connections at a time. */
function engine(): http.Server {
  let ended: () => void = () => undefined;
  const running = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const json = { 'Content-Type': 'application/json', 'Api-Version': '1.0' };
  const server = http.createServer(async (request, response) => {
    request.resume();
    switch (new URL(request.url ?? '/', 'http://engine').pathname.split('/').at(-1)) {
      case 'ping':
        response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': 2 }).end();
        break;
      case 'create':
        response.writeHead(201, json).end(`{"Id":"${ID}","Warnings":[]}`);
        break;
      case 'start':
        response.writeHead(204).end();
        break;
      case 'wait':
        response.writeHead(200, json).flushHeaders();
        await running;
        response.write('{"StatusCode":');
        response.end('0}\n');
        break;
      default:
        response.writeHead(200, { 'Content-Length': 0 }).end();
    }
  });
  server.on('upgrade', (_request, socket: Socket) => {
    socket.setNoDelay(true);
    socket.write(
      'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/x-raw\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
    );
    socket.on('data', (typed: Buffer) => {
      if (typed.toString() !== '\r') socket.write(typed);
      else {
        socket.write('\r\n');
        setImmediate(() => socket.write('bin  dev  etc  home  lib  proc  sys  tmp  usr  var\r\n/ # '));
      }
    });
    socket.on('end', () => {
      socket.end();
      ended();
    });
  });
  return server;
}

const ID = '5eed'.repeat(16);
const TYPED = 'ls -l /\rcat /etc/os-release\rexit\r';
/** Looks like a request, but is none. */
const PASTED = 'GET /pasted HTTP/1.1\r\nHost: shop\r\n\r\n';

/** HEAD, a switch of protocols and what is typed after it, and an answer in chunks that comes when all is over. */
const upgrade: Recording = {
  name: 'http-upgrade-to-raw-stream.pcap.gz',
  async make(cleanup) {
    const port = await listening(cleanup, engine());
    const frames = await record(cleanup, port, async () => {
      const kept = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const other = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const ask = (method: string, path: string, agent = kept, body = '') => asked(port, method, path, agent, body);
      await ask('HEAD', '/_ping');
      const spec = JSON.stringify({
        Image: 'busybox',
        Tty: true,
        Env: Array.from({ length: 60 }, (_, i) => `V${i}=${i * i}`),
      });
      await ask('POST', '/v1.41/containers/create', kept, spec);
      const stream = await attach(port);
      const over = ask('POST', `/v1.41/containers/${ID}/wait?condition=next-exit`);
      await ask('POST', `/v1.41/containers/${ID}/start`, other);
      await ask('POST', `/v1.41/containers/${ID}/resize?h=69&w=134`, other);
      for (const key of TYPED) {
        stream.write(key);
        await sleep(5);
      }
      stream.end(PASTED);
      await over;
      kept.destroy();
      other.destroy();
    });
    return { file: pcapFile(frames, LINK_ETHERNET) };
  },
};

async function asked(port: number, method: string, path: string, agent: http.Agent, body: string): Promise<void> {
  const request = http.request({ port, method, path, agent, headers: { 'Content-Length': body.length } });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  response.resume();
  await once(response, 'end');
}

/** Asks for the raw stream of a container's terminal. */
async function attach(port: number): Promise<Socket> {
  const path = `/v1.41/containers/${ID}/attach?stderr=1&stdin=1&stdout=1&stream=1`;
  const headers = { Connection: 'Upgrade', Upgrade: 'tcp', 'Content-Type': 'text/plain' };
  const request = http.request({ port, method: 'POST', path, headers });
  request.end();
  const [, socket] = (await once(request, 'upgrade')) as [unknown, Socket];
  socket.setNoDelay(true).resume();
  return socket;
}

const LONG_REQUESTS = 37;
/** Segments of 1388 bytes. */
const NARROW_MTU = 1440;

/** Header blocks that are longer than a segment: the cut is within the field User-Agent. */
const splitHeaders: Recording = {
  name: 'http-headers-in-two-segments.pcapng.gz',
  async make(cleanup) {
    await setMtu(NARROW_MTU);
    const nginx = await startNginx(cleanup);
    const frames = await record(cleanup, nginx.plainPort, async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      for (let i = 0; i < LONG_REQUESTS; i++) {
        const path = ['/hello', '/200', `/orders/${i}`, '/missing/', '/empty'][i % 5]!;
        const digest = Array.from(
          { length: 1200 },
          (_, at) => 'abcdefghijklmnopqrstuvwxyz234567'[(at * (i + 3) + (at >> 4)) % 32],
        );
        const request = http.get({
          ...{ port: nginx.plainPort, path: `${path}?d=${digest.join('')}`, agent },
          headers: {
            Host: 'ads.example',
            'User-Agent': `Dalvik/2.1 (${'a phone of some kind; '.repeat(12 + (i % 6))})`,
            Accept: '*/*',
          },
        });
        const [response] = (await once(request, 'response')) as [http.IncomingMessage];
        response.resume();
        await once(response, 'end');
      }
      agent.destroy();
    });
    return { file: pcapngFile(frames, LINK_ETHERNET) };
  },
};

export const HTTP_RECORDINGS: readonly Recording[] = [interimTwice, pipelined, oneLost, upgrade, splitHeaders];
