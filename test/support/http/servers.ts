import { fileURLToPath } from 'node:url';
import { type Certificate, selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePort } from '../programs/net.ts';
import { type Running, start } from '../programs/process.ts';

export interface ServerOptions {
  /** Default true. */
  tls?: boolean;
  host?: string;
  /** Default: any free one. */
  port?: number;
  certificate?: Certificate;
  /** Before the command, such as `ip netns exec NAME`. */
  prefix?: readonly string[];
  env?: Record<string, string | undefined>;
}

/** What a server says of each request that it has answered. */
export interface Answered {
  method: string;
  target: string;
  status: number;
  /** Of the response. */
  bodyBytes: number;
}

export interface Server {
  running: Running;
  host: string;
  port: number;
  /** Without a slash at the end. */
  url: string;
  log(): Answered[];
}

/**
 * @param command HOST PORT [CERT KEY] are put behind it; it says `listening PORT`, then a line of JSON per answer
 * @param more words behind those
 */
export async function startServer(
  cleanup: Cleanup,
  command: readonly string[],
  options: ServerOptions,
  more: readonly string[] = [],
): Promise<Server> {
  const host = options.host ?? '127.0.0.1';
  const tls = options.tls ?? true;
  const certificate = tls ? (options.certificate ?? (await selfSigned(cleanup))) : undefined;
  const files = certificate ? [certificate.certFile, certificate.keyFile] : [];
  const [program, ...args] = [
    ...(options.prefix ?? []),
    ...command,
    host,
    // Its own on every address: spans are told apart by it.
    String(options.port ?? (await freePort())),
    ...more,
    ...files,
  ];
  const running = start(cleanup, program!, args, options.env ? { env: options.env } : {});
  const port = Number((await running.waitFor('stdout', /^listening (\d+)\n/))[1]);
  return {
    running,
    host,
    port,
    url: `${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`,
    log: () =>
      running.stdout
        .slice(0, running.stdout.lastIndexOf('\n') + 1)
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as Answered),
  };
}

/** The path of a server script. */
export const serverScript = (name: string) => fileURLToPath(new URL(`servers/${name}`, import.meta.url));

/**
 * A server on Node's http or https. Paths: /bytes/N (a body of N bytes), /status/N (no body), /echo (the request's body), /slow/MS
 * (says `arrived TARGET`, answers `slow` after that time), /trickle/N (N chunks, 20 ms apart), /events/N (text/event-stream, N events of 16
 * bytes, 50 ms apart; `endMs` of its line is just before the end), /die (resets the connection).
 */
export function startNodeServer(cleanup: Cleanup, options: ServerOptions = {}): Promise<Server> {
  return startServer(cleanup, [process.execPath, serverScript('node-server.mjs')], options);
}

/**
 * A server on Node's http2: /bytes/N, /status/N, /echo, /reset/CODE (RST_STREAM with that code), /gather/N (answers when N such streams are
 * open at once), /goaway/CODE (GOAWAY with that code, then the end of the connection, without an answer), /push/N (N promised streams of 10 bytes each),
 * /refuse/N (refuses the first N requests with the same target), /hold/N (says `holds`; the beginning of an answer with N bytes, nothing of it with 0, and
 * never its end), /hints/N (N interim responses, 100 ms before an answer with trailers); CONNECT.
 */
export function startHttp2Server(cleanup: Cleanup, options: ServerOptions = {}): Promise<Server> {
  return startServer(cleanup, [process.execPath, serverScript('http2-server.mjs')], options);
}

/** An application that makes spans of its own and hands each request on to `upstream`: see instrumented-server.mjs. */
export function startInstrumentedServer(
  cleanup: Cleanup,
  options: ServerOptions & { name: string; upstream: string; endpoint: string },
): Promise<Server> {
  const { name, upstream, endpoint } = options;
  return startServer(cleanup, [process.execPath, serverScript('instrumented-server.mjs')], {
    ...options,
    tls: false,
    env: { OTEL_SERVICE_NAME: name, UPSTREAM: upstream, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint },
  });
}

/** What the gRPC server says of each call that it ended itself. */
export interface AnsweredCall {
  method: string;
  requests: number;
  responses: number;
  status: number;
  requestBytes: number;
  responseBytes: number;
}

/** A server that agrees to `Upgrade: h2c` and answers `hello` to everything. */
export function startH2cServer(cleanup: Cleanup): Promise<Server> {
  return startServer(cleanup, [process.execPath, serverScript('h2c-server.mjs')], { tls: false });
}

/** What the WebSocket server says of a connection that has ended: messages and bytes of their content, before compression. */
export interface Talked {
  target: string;
  received: number;
  receivedBytes: number;
  sent: number;
  sentBytes: number;
  code: number;
}

/**
 * A WebSocket server on the package ws: /echo, /fragments (echoes in fragments of 5000 bytes, with pings between them), /deflate (echoes,
 * all messages compressed when the client agrees), /close/CODE and /die (closes, tears down the connection at the first message), /refuse (403).
 * With WEBSOCKET_HTTP2 in its environment it speaks HTTP/2.
 */
export async function startWebSocketServer(
  cleanup: Cleanup,
  options: ServerOptions = {},
): Promise<Server & { talked(): Talked[] }> {
  const server = await startServer(cleanup, [process.execPath, serverScript('websocket-server.mjs')], options);
  return { ...server, talked: () => server.log() as unknown as Talked[] };
}

/** A relay that hands the bytes of its connections on to a server of this machine, as they are: TLS goes through it. */
export function startTcpRelay(cleanup: Cleanup, to: Server, options: ServerOptions = {}): Promise<Server> {
  const words = [process.execPath, serverScript('tcp-relay.mjs')];
  return startServer(cleanup, words, { ...options, tls: false }, [String(to.port)]);
}

/** A server on Python's http.server, with the same /bytes/N, /status/N, /echo and /slow/MS. */
export function startPythonServer(cleanup: Cleanup, options: ServerOptions = {}): Promise<Server> {
  return startServer(cleanup, ['python3', '-u', serverScript('python-server.py')], options);
}
