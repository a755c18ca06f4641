/** Real handshakes, recorded through a proxy, and their replay through the TLS layer. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { defaultLimits, type Limits } from '../../../src/config/limits.ts';
import {
  type Connection,
  type Direction,
  type EndReason,
  FROM_CLIENT,
  FROM_SERVER,
  type Layer,
} from '../../../src/flow/connection.ts';
import type { LayerContext } from '../../../src/protocol/layer.ts';
import { SecretStore } from '../../../src/secrets/store.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { createTlsLayer } from '../../../src/tls/layer.ts';
import { accountable, newAccount } from '../wire/memory.ts';

export interface Chunk {
  direction: Direction;
  bytes: Buffer;
}

export interface Recording {
  chunks: Chunk[];
  keyLog: string;
  /** What the application wrote, by direction. */
  sent: [Buffer, Buffer];
}

const folder = mkdtempSync(join(tmpdir(), 'wirespan-tls-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

function certificate(
  name: string,
  algorithm: string[],
): { key: Buffer; cert: Buffer; keyFile: string; certFile: string } {
  const keyFile = join(folder, `${name}.key`);
  const certFile = join(folder, `${name}.crt`);
  const subject = ['-subj', '/CN=localhost', '-days', '2', '-nodes', '-keyout', keyFile, '-out', certFile];
  execFileSync('openssl', ['req', '-x509', ...algorithm, ...subject], { stdio: 'ignore' });
  return { key: readFileSync(keyFile), cert: readFileSync(certFile), keyFile, certFile };
}

let rsa: ReturnType<typeof certificate> | undefined;
let ecdsa: ReturnType<typeof certificate> | undefined;
export function rsaCertificate() {
  rsa ??= certificate('rsa', ['-newkey', 'rsa:2048']);
  return rsa;
}
export function ecdsaCertificate() {
  ecdsa ??= certificate('ecdsa', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']);
  return ecdsa;
}
export function temporaryPath(name: string): string {
  return join(folder, name);
}

export function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
}

/** A proxy that notes what passes. */
export async function recordingProxy(targetPort: number): Promise<{ port: number; chunks: Chunk[][]; close(): void }> {
  const chunks: Chunk[][] = [];
  const sockets = new Set<Socket>();
  const proxy = createServer((client) => {
    const own: Chunk[] = [];
    chunks.push(own);
    const server = connect(targetPort, '127.0.0.1');
    for (const [from, to, direction] of [
      [client, server, FROM_CLIENT],
      [server, client, FROM_SERVER],
    ] as const) {
      sockets.add(from);
      from.setNoDelay(true);
      from.on('data', (bytes) => {
        own.push({ direction, bytes: Buffer.from(bytes) });
        to.write(bytes);
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => sockets.delete(from));
    }
  });
  const port = await listen(proxy);
  return {
    port,
    chunks,
    close: () => {
      proxy.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

export interface NodeOptions {
  server?: tls.TlsOptions;
  client?: tls.ConnectionOptions;
  /** Before the server accepts. */
  prepare?: (server: tls.Server) => void;
  /** What each side says in turn; the client begins. */
  dialogue?: (client: Talker, server: Talker) => Promise<void>;
}

/** One end of a recorded conversation. */
export interface Talker {
  socket: tls.TLSSocket;
  /** Writes, and waits until the other end has it. */
  say(bytes: Buffer | string): Promise<void>;
}

export async function defaultDialogue(client: Talker, server: Talker): Promise<void> {
  await client.say('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await server.say(`HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n${'0123456789'.repeat(4000)}`);
  for (let i = 0; i < 5; i++) {
    await client.say(`request ${i}`);
    await server.say(`response ${i} `.repeat(i * 40));
  }
}

/** Handshakes between two ends in this process. @returns the recording of the last of `connections` */
export async function recordNode(options: NodeOptions = {}, connections = 1): Promise<Recording> {
  const keyLog: string[] = [];
  const accepted: tls.TLSSocket[] = [];
  let onAccepted: (() => void) | undefined;
  const { key, cert } = rsaCertificate();
  const server = tls.createServer({ key, cert, ...options.server }, (socket) => {
    socket.on('error', () => {});
    accepted.push(socket);
    onAccepted?.();
  });
  server.on('keylog', (line: Buffer) => keyLog.push(line.toString()));
  options.prepare?.(server);
  const port = await listen(server);
  const proxy = await recordingProxy(port);
  const sent: [Buffer[], Buffer[]] = [[], []];
  let session: Buffer | undefined;
  try {
    for (let i = 0; i < connections; i++) {
      keyLog.length = 0;
      sent[0].length = sent[1].length = 0;
      const arrived = new Promise<void>((resolve) => {
        onAccepted = resolve;
      });
      const client = tls.connect({
        port: proxy.port,
        host: '127.0.0.1',
        servername: 'localhost',
        rejectUnauthorized: false,
        ...options.client,
        ...(session === undefined ? {} : { session }),
      });
      client.on('session', (ticket: Buffer) => {
        session = ticket;
      });
      client.on('error', () => {});
      await new Promise<void>((resolve, reject) => {
        client.once('secureConnect', resolve);
        client.once('error', reject);
      });
      await arrived;
      if (i > 0 && !client.isSessionReused()) throw new Error('the session was not resumed');
      const peer = accepted.at(-1)!;
      const talk = options.dialogue ?? defaultDialogue;
      await talk(talker(client, peer, sent[0]), talker(peer, client, sent[1]));
      const closed = new Promise((resolve) => client.once('close', resolve));
      client.end();
      await closed;
    }
    return {
      chunks: proxy.chunks.at(-1)!,
      keyLog: keyLog.join(''),
      sent: [Buffer.concat(sent[0]), Buffer.concat(sent[1])],
    };
  } finally {
    proxy.close();
    server.close();
  }
}

function talker(socket: tls.TLSSocket, peer: tls.TLSSocket, sent: Buffer[]): Talker {
  return {
    socket,
    say: (text) =>
      new Promise<void>((resolve, reject) => {
        const bytes = Buffer.from(text as string);
        sent.push(bytes);
        let left = bytes.length;
        if (left === 0) return socket.write(bytes, () => resolve());
        const onData = (data: Buffer) => {
          left -= data.length;
          if (left > 0) return;
          peer.off('data', onData);
          peer.off('error', reject);
          resolve();
        };
        peer.on('data', onData);
        peer.once('error', reject);
        socket.write(bytes);
        return undefined;
      }),
  };
}

/** What came out of the TLS layer. */
export interface Outcome {
  received: [Buffer, Buffer];
  /** In the order of their arrival above: direction and length, or what else happened. */
  events: string[];
  gaps: { direction: Direction; length: number }[];
  /** Of the data: when it was whole, and when its first byte came. */
  times: { direction: Direction; timeUs: number; firstUs: number | undefined }[];
  counters: ReturnType<typeof newCounters>;
  connection: Connection;
  keyLog: string[];
  muted: boolean;
  /** The layer said that nothing follows. */
  finished: boolean;
}

export interface ReplayOptions {
  limits?: Partial<Limits>;
  startSeen?: boolean;
  explainMissingSecret?: () => string | undefined;
}

/** One connection through the layer, event by event. */
export class Replay {
  readonly store: SecretStore;
  readonly layer: Layer;
  readonly outcome: Outcome;
  readonly limits: Limits;
  readonly #received: [Buffer[], Buffer[]] = [[], []];
  timeUs = 1000;
  wantsTicks = false;

  constructor(options: ReplayOptions = {}) {
    const counters = newCounters();
    this.limits = { ...defaultLimits, ...options.limits };
    this.store = new SecretStore(this.limits, counters);
    const connection: Connection = {
      id: 1,
      client: { address: '127.0.0.1', port: 40000, socket: 0 },
      server: { address: '127.0.0.1', port: 443, socket: 0 },
      startSeen: options.startSeen ?? true,
      initialSequence: [0, 0],
      startUs: 0,
      tls: undefined,
      awaitingSecret: false,
      spanState: undefined,
    };
    const outcome: Outcome = {
      received: [Buffer.alloc(0), Buffer.alloc(0)],
      events: [],
      gaps: [],
      times: [],
      counters,
      connection,
      keyLog: [],
      muted: false,
      finished: false,
    };
    this.outcome = outcome;
    const memory = newAccount();
    const context: LayerContext = {
      memory,
      connection,
      limits: this.limits,
      counters,
      emit: () => {},
      mute: () => {
        outcome.muted = true;
      },
      wantTicks: (wanted) => {
        this.wantsTicks = wanted;
      },
      finish: () => {
        outcome.finished = true;
      },
    };
    const layer = createTlsLayer(context, {
      secrets: this.store,
      next: () => this.#upper(),
      onKeyLog: (_connection, line) => outcome.keyLog.push(line),
      ...(options.explainMissingSecret === undefined ? {} : { explainMissingSecret: options.explainMissingSecret }),
    });
    this.layer = accountable(layer, memory);
  }

  data(direction: Direction, bytes: Buffer): this {
    // Surrounded by other bytes, which the layer must not touch; and gone after the call, as a capture chunk is.
    const chunk = Buffer.alloc(bytes.length + 16, 0x17);
    bytes.copy(chunk, 7);
    this.layer.data(direction, chunk, 7, 7 + bytes.length, this.timeUs++);
    chunk.fill(0xee);
    return this;
  }

  all(chunks: readonly Chunk[]): this {
    for (const { direction, bytes } of chunks) this.data(direction, bytes);
    return this;
  }

  finish(reason: EndReason = 'fin'): Outcome {
    this.layer.end(FROM_CLIENT, reason, this.timeUs++);
    this.layer.end(FROM_SERVER, reason, this.timeUs++);
    this.layer.close(reason, this.timeUs++);
    this.outcome.received = [Buffer.concat(this.#received[0]), Buffer.concat(this.#received[1])];
    return this.outcome;
  }

  #upper(): Layer {
    const { events, gaps, times } = this.outcome;
    return {
      data: (direction, bytes, start, end, timeUs, firstUs) => {
        times.push({ direction, timeUs, firstUs });
        this.#received[direction].push(Buffer.from(bytes.subarray(start, end)));
        events.push(`${direction} data`);
      },
      gap: (direction, length) => {
        gaps.push({ direction, length });
        events.push(`${direction} gap ${length}`);
      },
      end: (direction) => void events.push(`${direction} end`),
      close: (reason) => void events.push(`close ${reason}`),
    };
  }
}

/** Cuts the chunks at pieces of random length; the order stays. */
export function splitRandomly(chunks: readonly Chunk[], maxLength: number, random: () => number): Chunk[] {
  const out: Chunk[] = [];
  for (const { direction, bytes } of chunks) {
    for (let start = 0; start < bytes.length; ) {
      const end = Math.min(bytes.length, start + 1 + Math.floor(random() * maxLength));
      out.push({ direction, bytes: bytes.subarray(start, end) });
      start = end;
    }
  }
  return out;
}

/** A small generator of pseudo-random numbers, so that a failure can be repeated. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
