/** The agent's own HTTP server: health, readiness, metrics. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ListenAddress } from '../config/listen.ts';

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** @param accept the value of the Accept field; empty without one */
export type Route = (accept: string) => Answer;

/** Whoever asks asks seldom: scrapers and probes. */
const MAX_CONNECTIONS = 64;
const REQUEST_TIMEOUT_MS = 10_000;
/** Longer than the pause between two scrapes, so that a scraper keeps its connection. */
const KEEP_ALIVE_MS = 75_000;

/** Answers GET and HEAD by path; whatever else comes is refused, and no body is ever read. */
export class Endpoint {
  readonly #server: Server;
  readonly #routes: ReadonlyMap<string, Route>;

  private constructor(routes: ReadonlyMap<string, Route>, onLocalAddress: ((address: string) => void) | undefined) {
    this.#routes = routes;
    this.#server = createServer(
      { headersTimeout: REQUEST_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: KEEP_ALIVE_MS },
      (request, response) => this.#answer(request, response),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    if (onLocalAddress !== undefined) {
      this.#server.on('connection', ({ localAddress }: Socket) => {
        if (localAddress !== undefined) onLocalAddress(localAddress);
      });
    }
  }

  /**
   * @param routes by path
   * @param onLocalAddress told of the address that a client has connected to
   * @throws Error that says why it cannot listen there
   */
  static async open(
    address: ListenAddress,
    routes: ReadonlyMap<string, Route>,
    onLocalAddress?: (address: string) => void,
  ): Promise<Endpoint> {
    const endpoint = new Endpoint(routes, onLocalAddress);
    const server = endpoint.#server;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen({ port: address.port, ...(address.host !== '' && { host: address.host }) }, resolve);
    try {
      await promise;
    } catch (error) {
      throw new Error(`cannot listen on ${shown(address)}: ${whyNot(error as NodeJS.ErrnoException)}`);
    }
    server.off('error', reject);
    // What comes later, such as no descriptor left for one more connection, is of that connection.
    server.on('error', () => {});
    server.unref();
    return endpoint;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const answer = this.#answerTo(request);
    const bytes = Buffer.from(answer.body);
    response.writeHead(answer.status, {
      'content-type': answer.contentType,
      'content-length': bytes.length,
      'cache-control': 'no-store',
      ...(answer.status === 405 && { allow: 'GET, HEAD' }),
    });
    response.end(request.method === 'HEAD' ? undefined : bytes);
  }

  #answerTo({ url = '', method, headers }: IncomingMessage): Answer {
    const route = this.#routes.get(url.replace(/\?.*$/s, ''));
    if (route === undefined) return text(404, `there is: ${[...this.#routes.keys()].join(', ')}`);
    if (method !== 'GET' && method !== 'HEAD') return text(405, 'GET or HEAD');
    try {
      return route(headers.accept ?? '');
    } catch (error) {
      // A defect of ours, and no reason to end the agent. What it says may quote what was captured.
      return text(500, error instanceof Error ? error.name : typeof error);
    }
  }
}

function text(status: number, line: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${line}\n` };
}

function shown({ host, port }: ListenAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function whyNot(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return 'the port is in use';
    case 'EACCES':
      return 'permission denied';
    case 'EADDRNOTAVAIL':
      return 'this machine has no such address';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'there is no such host';
    default:
      return error.message;
  }
}
