/** The agent's own HTTP server: health, readiness, metrics. */

import { STATUS_CODES } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import type { ListenAddress } from '../config/listen.ts';

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** @param accept the value of the Accept field; empty without one */
export type Route = (accept: string) => Answer;

/**
 * Whoever asks asks seldom: scrapers and probes. Beyond this number the connection that has been there for longest goes, unless it has just
 * come; beyond the other one it goes in any case.
 */
const MAX_CONNECTIONS = 64;
const MAX_YOUNG_CONNECTIONS = 1024;
/** A connection is left this time to ask, however many others come. */
const YOUNG_MS = 1000;
/** For a request to come, for an answer to be taken, and for what follows a request to be thrown away. */
const REQUEST_TIMEOUT_MS = 3000;
const ANSWER_TIMEOUT_MS = 10_000;
const LINGER_MS = 500;
/** Of a request: its line and its fields. */
const MAX_HEAD_BYTES = 16 * 1024;
/** Answers that cost much are made this often per second; who asks more often gets the last one. */
const DEAR_PER_SECOND = 4;
/** Such answers that are under way at once, to readers that may be slow. */
const DEAR_AT_ONCE = 8;
/** Last answers that are kept, by path and format. */
const MAX_LAST = 4;

/** What is known of an open connection. */
interface Visitor {
  readonly socket: Socket;
  readonly address: string;
  readonly sinceMs: number;
  /** What it has said so far of its request. */
  head: Buffer;
  /** It was answered: nothing more is read. */
  answered: boolean;
  timer: NodeJS.Timeout;
}

interface Request {
  readonly method: string;
  readonly path: string;
  readonly accept: string;
}

/**
 * Answers GET and HEAD by path; whatever else comes is refused, and no body is ever read.
 *
 * Whoever reaches the port may keep silent, ask slowly, ask a thousand things at once, or never take an answer. A probe that gets no answer ends
 * the agent. So each connection has one request and an end (RFC 9112, 9.6), and nobody keeps a place that a newcomer needs: the address with the
 * most connections gives one up. Node's own server parses whatever a connection has sent, 1,600 requests in one piece, before anybody
 * can refuse it.
 */
export class Endpoint {
  readonly #server: Server;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #dear: ReadonlySet<string>;
  /** In the order of their coming. */
  readonly #visitors = new Set<Visitor>();
  readonly #last = new Map<string, Answer>();
  #dearLeft = DEAR_PER_SECOND;
  #dearAtMs = performance.now();
  #dearUnderWay = 0;

  private constructor(
    routes: ReadonlyMap<string, Route>,
    dear: readonly string[],
    onLocalAddress: ((address: string) => void) | undefined,
  ) {
    this.#routes = routes;
    this.#dear = new Set(dear);
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#welcome(socket);
      if (socket.localAddress !== undefined) onLocalAddress?.(socket.localAddress);
    });
  }

  /**
   * @param routes by path
   * @param onLocalAddress told of the address that a client has connected to
   * @param dear paths whose answers cost much
   * @throws Error that says why it cannot listen there
   */
  static async open(
    address: ListenAddress,
    routes: ReadonlyMap<string, Route>,
    onLocalAddress?: (address: string) => void,
    dear: readonly string[] = [],
  ): Promise<Endpoint> {
    const endpoint = new Endpoint(routes, dear, onLocalAddress);
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
    for (const { socket } of this.#visitors) socket.destroy();
  }

  // --- Connections -----------------------------------------------------------------------------------------------------------------

  #welcome(socket: Socket): void {
    const visitor: Visitor = {
      socket,
      address: socket.remoteAddress ?? '',
      sinceMs: performance.now(),
      head: Buffer.alloc(0),
      answered: false,
      timer: setTimeout(() => this.#tooLate(visitor), REQUEST_TIMEOUT_MS).unref(),
    };
    this.#visitors.add(visitor);
    socket.on('error', () => {});
    socket.once('close', () => {
      clearTimeout(visitor.timer);
      this.#visitors.delete(visitor);
    });
    socket.on('data', (bytes: Buffer) => this.#heard(visitor, bytes));
    // Who has nothing more to say, and has not asked, will not ask.
    socket.once('end', () => !visitor.answered && socket.destroy());
    if (this.#visitors.size > MAX_CONNECTIONS) this.#makeRoom();
  }

  /** After a turn that took long, what has come meanwhile is read before those who have not asked are sent away. */
  #tooLate(visitor: Visitor): void {
    setImmediate(() => {
      if (!visitor.answered) visitor.socket.destroy();
    });
  }

  /** Of the address with the most connections the oldest; one that has just come only when there are far too many. */
  #makeRoom(): void {
    const now = performance.now();
    const many = this.#visitors.size > MAX_YOUNG_CONNECTIONS;
    const numbers = new Map<string, number>();
    const oldest = new Map<string, Visitor>();
    for (const visitor of this.#visitors) {
      // In the order of their coming: those that follow are younger.
      if (!many && now - visitor.sinceMs < YOUNG_MS) break;
      numbers.set(visitor.address, (numbers.get(visitor.address) ?? 0) + 1);
      if (!oldest.has(visitor.address)) oldest.set(visitor.address, visitor);
    }
    let most: string | undefined;
    for (const [address, number] of numbers) if (number > (numbers.get(most ?? '') ?? 0)) most = address;
    const left = most === undefined ? undefined : oldest.get(most);
    if (left === undefined) return;
    this.#visitors.delete(left);
    left.socket.destroy();
  }

  #heard(visitor: Visitor, bytes: Buffer): void {
    if (visitor.answered) return;
    const head = visitor.head.length === 0 ? bytes : Buffer.concat([visitor.head, bytes]);
    const end = head.indexOf('\r\n\r\n');
    if (end >= 0 && end <= MAX_HEAD_BYTES) {
      const request = parseHead(head.toString('latin1', 0, end));
      if (request === undefined) this.#send(visitor, text(400, 'not a request of HTTP/1'), false);
      else this.#answer(visitor, request);
    } else if (head.length > MAX_HEAD_BYTES) {
      this.#send(visitor, text(431, 'too many header fields'), false);
    } else {
      visitor.head = head;
    }
  }

  #send(visitor: Visitor, answer: Answer, headOnly: boolean): void {
    const { socket } = visitor;
    const body = Buffer.from(answer.body);
    const fields = [
      `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}`,
      `content-type: ${answer.contentType}`,
      `content-length: ${body.length}`,
      'cache-control: no-store',
      ...(answer.status === 405 ? ['allow: GET, HEAD'] : []),
      `date: ${new Date().toUTCString()}`,
      'connection: close',
    ];
    const head = Buffer.from(`${fields.join('\r\n')}\r\n\r\n`, 'latin1');
    visitor.answered = true;
    visitor.head = Buffer.alloc(0);
    clearTimeout(visitor.timer);
    visitor.timer = setTimeout(() => socket.destroy(), ANSWER_TIMEOUT_MS).unref();
    // What follows the request, such as a body, is thrown away for a moment: closed at once, the answer might be lost with it.
    socket.end(headOnly ? head : Buffer.concat([head, body]), () => {
      clearTimeout(visitor.timer);
      if (socket.readableEnded) socket.destroy();
      else visitor.timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    });
    socket.once('end', () => socket.writableFinished && socket.destroy());
  }

  // --- Answers ---------------------------------------------------------------------------------------------------------------------

  #answer(visitor: Visitor, request: Request): void {
    if (!this.#dear.has(request.path)) {
      this.#send(visitor, this.#answerTo(request), request.method === 'HEAD');
      return;
    }
    if (this.#dearUnderWay >= DEAR_AT_ONCE) {
      this.#send(visitor, text(503, 'too many ask at once'), false);
      return;
    }
    this.#dearUnderWay++;
    visitor.socket.once('close', () => this.#dearUnderWay--);
    this.#send(visitor, this.#answerTo(request), request.method === 'HEAD');
  }

  #answerTo({ method, path, accept }: Request): Answer {
    const route = this.#routes.get(path);
    if (route === undefined) return text(404, `there is: ${[...this.#routes.keys()].join(', ')}`);
    if (method !== 'GET' && method !== 'HEAD') return text(405, 'GET or HEAD');
    try {
      return this.#dear.has(path) ? this.#dearAnswer(path, route, accept) : route(accept);
    } catch (error) {
      // A defect of ours, and no reason to end the agent. What it says may quote what was captured.
      return text(500, error instanceof Error ? error.name : typeof error);
    }
  }

  /** Made now, or the last one when it is asked for too often. */
  #dearAnswer(path: string, route: Route, accept: string): Answer {
    const now = performance.now();
    this.#dearLeft = Math.min(DEAR_PER_SECOND, this.#dearLeft + ((now - this.#dearAtMs) * DEAR_PER_SECOND) / 1000);
    this.#dearAtMs = now;
    const key = `${path} ${accept}`;
    const last = this.#last.get(key);
    if (this.#dearLeft < 1) return last ?? text(503, 'too many ask at once');
    this.#dearLeft--;
    const answer = route(accept);
    if (last === undefined && this.#last.size >= MAX_LAST) this.#last.clear();
    this.#last.set(key, answer);
    return answer;
  }
}

/** @param head request line and fields (RFC 9112, 2.1), without the empty line */
function parseHead(head: string): Request | undefined {
  const [line = '', ...fields] = head.split('\r\n');
  const [, method, target] = /^([!#$%&'*+.^_`|~\w-]+) (\S+) HTTP\/1\.\d$/.exec(line) ?? [];
  if (method === undefined || target === undefined) return undefined;
  const accepted = fields.flatMap((field) => /^accept:[ \t]*(.*?)[ \t]*$/i.exec(field)?.[1] ?? []);
  return { method, path: target.replace(/^https?:\/\/[^/?]*/i, '').replace(/\?.*$/s, ''), accept: accepted.join(', ') };
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
