/** The agent's own HTTP service: health, readiness, metrics, and what it shows of the traffic. */

import { STATUS_CODES } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { serviceLimits, streamLimits } from '../config/limits.ts';
import type { ListenAddress } from '../config/listen.ts';
import { type Answer, textAnswer } from '../telemetry/answer.ts';
import type { Access } from './access.ts';
import { parseHead, type Request } from './request.ts';
import { isStream, type Route, type StreamAnswer } from './route.ts';
import { Stream } from './stream.ts';

/** A connection is left this time to ask, however many others come. */
const YOUNG_MS = 1000;
/** For a request to come, for an answer to be taken, and for what follows a request to be thrown away. */
const REQUEST_TIMEOUT_MS = 3000;
const ANSWER_TIMEOUT_MS = 10_000;
const LINGER_MS = 500;
/** How often streams are looked at. */
const CHECK_MS = 5000;

/** What is known of an open connection. */
interface Visitor {
  readonly socket: Socket;
  readonly address: string;
  readonly sinceMs: number;
  /** Which budget its place is of: those that may be a probe's, or others. */
  pool: Set<Visitor>;
  /** What it has said so far of its request. */
  head: Buffer;
  /** It was answered: nothing more is read. */
  answered: boolean;
  timer: NodeJS.Timeout;
}

export interface ServiceOptions {
  /** Who may read routes that show traffic. */
  readonly access: Access;
  /** Called with the address that a client has connected to. */
  readonly onLocalAddress?: (address: string) => void;
}

/**
 * Answers GET and HEAD by path; whatever else comes is refused, and no body is ever read.
 *
 * Clients that reach the port may keep silent, ask slowly, ask a thousand things at once, or never take an answer. A probe that gets no answer ends
 * the agent. So each connection has one request and an end (RFC 9112, 9.6), and nobody keeps a place that a newcomer needs: the address with the
 * most connections gives one up. Connections that ask for anything but a probe count apart, and so do streams, of which there are few. Node's own
 * server parses whatever a connection has sent, 1,600 requests in one piece, before anybody can refuse it.
 */
export class Service {
  readonly #server: Server;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #access: Access;
  /** Each in the order of their coming: connections that may be probes, and those that are none. */
  readonly #newcomers = new Set<Visitor>();
  readonly #others = new Set<Visitor>();
  readonly #streams = new Map<Socket, Stream>();
  readonly #last = new Map<string, Answer>();
  readonly #checks: NodeJS.Timeout;
  #costlyLeft: number = serviceLimits.costlyPerSecond;
  #costlyAtMs = performance.now();
  #costlyUnderWay = 0;

  private constructor(routes: readonly Route[], { access, onLocalAddress }: ServiceOptions) {
    this.#routes = new Map(routes.map((route) => [route.path, route]));
    this.#access = access;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#welcome(socket);
      if (socket.localAddress !== undefined) onLocalAddress?.(socket.localAddress);
    });
    this.#checks = setInterval(() => {
      for (const stream of this.#streams.values()) stream.check(performance.now());
    }, CHECK_MS).unref();
  }

  /** @throws Error that says why it cannot listen there */
  static async open(address: ListenAddress, routes: readonly Route[], options: ServiceOptions): Promise<Service> {
    const service = new Service(routes, options);
    const server = service.#server;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen({ port: address.port, ...(address.host !== '' && { host: address.host }) }, resolve);
    try {
      await promise;
    } catch (error) {
      clearInterval(service.#checks);
      throw new Error(`cannot listen on ${shown(address)}: ${whyNot(error as NodeJS.ErrnoException)}`);
    }
    server.off('error', reject);
    // What comes later, such as no descriptor left for one more connection, is of that connection.
    server.on('error', () => {});
    server.unref();
    return service;
  }

  /** Streams end in order, with what was written to them; all other connections at once. */
  close(): void {
    clearInterval(this.#checks);
    this.#server.close();
    for (const pool of [this.#newcomers, this.#others]) for (const { socket } of pool) socket.destroy();
    for (const stream of this.#streams.values()) stream.end();
  }

  // --- Connections -----------------------------------------------------------------------------------------------------------------

  #welcome(socket: Socket): void {
    const visitor: Visitor = {
      socket,
      address: socket.remoteAddress ?? '',
      sinceMs: performance.now(),
      pool: this.#newcomers,
      head: Buffer.alloc(0),
      answered: false,
      timer: setTimeout(() => this.#tooLate(visitor), REQUEST_TIMEOUT_MS).unref(),
    };
    socket.on('error', () => {});
    socket.once('close', () => {
      clearTimeout(visitor.timer);
      visitor.pool.delete(visitor);
    });
    socket.on('data', (bytes: Buffer) => this.#heard(visitor, bytes));
    // Who has nothing more to say, and has not asked, will not ask.
    socket.once('end', () => !visitor.answered && socket.destroy());
    this.#place(visitor, this.#newcomers);
  }

  /** After a turn that took long, what has come meanwhile is read before those who have not asked are sent away. */
  #tooLate(visitor: Visitor): void {
    setImmediate(() => {
      if (!visitor.answered) visitor.socket.destroy();
    });
  }

  #place(visitor: Visitor, pool: Set<Visitor>): void {
    visitor.pool.delete(visitor);
    visitor.pool = pool;
    pool.add(visitor);
    if (pool.size > serviceLimits.connections) makeRoom(pool);
  }

  #heard(visitor: Visitor, bytes: Buffer): void {
    if (visitor.answered) return;
    const head = visitor.head.length === 0 ? bytes : Buffer.concat([visitor.head, bytes]);
    const end = head.indexOf('\r\n\r\n');
    if (end >= 0 && end <= serviceLimits.headBytes) {
      const request = parseHead(head.toString('latin1', 0, end));
      if (request === undefined) this.#send(visitor, textAnswer(400, 'not a request of HTTP/1'), false);
      else this.#answer(visitor, request);
    } else if (head.length > serviceLimits.headBytes) {
      this.#send(visitor, textAnswer(431, 'too many header fields'), false);
    } else {
      visitor.head = head;
    }
  }

  #send(visitor: Visitor, answer: Answer, headOnly: boolean): void {
    const { socket } = visitor;
    const body = Buffer.from(answer.body);
    const head = headOf(answer.status, answer.contentType, { 'content-length': String(body.length), ...answer.fields });
    this.#settle(visitor);
    visitor.timer = setTimeout(() => socket.destroy(), ANSWER_TIMEOUT_MS).unref();
    // What follows the request, such as a body, is thrown away for a moment: closed at once, the answer might be lost with it.
    socket.end(headOnly ? head : Buffer.concat([head, body]), () => {
      clearTimeout(visitor.timer);
      if (socket.readableEnded) socket.destroy();
      else visitor.timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    });
    socket.once('end', () => socket.writableFinished && socket.destroy());
  }

  #begin(visitor: Visitor, answer: StreamAnswer, isOld: boolean): void {
    const { socket } = visitor;
    this.#settle(visitor);
    visitor.pool.delete(visitor);
    // A reader that is gone without a word is found out.
    socket.setKeepAlive(true, streamLimits.stalledMs / 2);
    socket.setNoDelay(true);
    const stream = new Stream(socket, !isOld);
    this.#streams.set(socket, stream);
    socket.once('close', () => this.#streams.delete(socket));
    socket.once('end', () => socket.destroy());
    socket.write(headOf(200, answer.contentType, isOld ? {} : { 'transfer-encoding': 'chunked' }));
    try {
      answer.start(stream);
    } catch {
      socket.destroy();
    }
  }

  /** Nothing more is read of it. */
  #settle(visitor: Visitor): void {
    visitor.answered = true;
    visitor.head = Buffer.alloc(0);
    clearTimeout(visitor.timer);
  }

  // --- Answers ---------------------------------------------------------------------------------------------------------------------

  #answer(visitor: Visitor, request: Request): void {
    const route = this.#routes.get(request.path);
    const headOnly = request.method === 'HEAD';
    if (route?.kind !== 'probe') this.#place(visitor, this.#others);
    if (route?.kind === 'costly') {
      if (this.#costlyUnderWay >= serviceLimits.costlyAtOnce) {
        this.#send(visitor, textAnswer(503, 'too many ask at once'), false);
        return;
      }
      this.#costlyUnderWay++;
      visitor.socket.once('close', () => this.#costlyUnderWay--);
    }
    const answer = this.#answerTo(request, route);
    if (!isStream(answer)) this.#send(visitor, answer, headOnly);
    else if (headOnly) this.#send(visitor, { status: 200, contentType: answer.contentType, body: '' }, true);
    else this.#begin(visitor, answer, request.isOld);
  }

  #answerTo(request: Request, route: Route | undefined): Answer | StreamAnswer {
    if (route === undefined) return textAnswer(404, `there is: ${[...this.#routes.keys()].join(', ')}`);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return textAnswer(405, 'GET or HEAD', { allow: 'GET, HEAD' });
    }
    if (route.kind === 'traffic') {
      const refusal = this.#access.refuse(request);
      if (refusal !== undefined) return refusal;
      if (this.#streams.size >= streamLimits.streams) return textAnswer(503, 'too many read at once');
    }
    const wrong = [...request.parameters.keys()].find((name) => route.parameters?.includes(name) === false);
    if (wrong !== undefined) return textAnswer(400, `parameters are: ${route.parameters!.join(', ')}`);
    try {
      return route.kind === 'costly' ? this.#costlyAnswer(request, route) : route.answer(request);
    } catch (error) {
      // A defect of ours, and no reason to end the agent. What it says may quote what was captured.
      return textAnswer(500, error instanceof Error ? error.name : typeof error);
    }
  }

  /** Made now, or the last one when it is asked for too often. */
  #costlyAnswer(request: Request, route: Route & { kind: 'probe' | 'costly' }): Answer {
    const { costlyPerSecond, costlyKept } = serviceLimits;
    const now = performance.now();
    const gained = ((now - this.#costlyAtMs) * costlyPerSecond) / 1000;
    this.#costlyLeft = Math.min(costlyPerSecond, this.#costlyLeft + gained);
    this.#costlyAtMs = now;
    const key = `${route.path} ${request.fields.get('accept') ?? ''}`;
    const last = this.#last.get(key);
    if (this.#costlyLeft < 1) return last ?? textAnswer(503, 'too many ask at once');
    this.#costlyLeft--;
    const answer = route.answer(request);
    if (last === undefined && this.#last.size >= costlyKept) this.#last.clear();
    this.#last.set(key, answer);
    return answer;
  }
}

/** Of the address with the most connections the oldest; one that has just come only when there are far too many. */
function makeRoom(pool: Set<Visitor>): void {
  const now = performance.now();
  const many = pool.size > serviceLimits.youngConnections;
  const numbers = new Map<string, number>();
  const oldest = new Map<string, Visitor>();
  for (const visitor of pool) {
    // In the order of their coming: those that follow are younger.
    if (!many && now - visitor.sinceMs < YOUNG_MS) break;
    numbers.set(visitor.address, (numbers.get(visitor.address) ?? 0) + 1);
    if (!oldest.has(visitor.address)) oldest.set(visitor.address, visitor);
  }
  let most: string | undefined;
  for (const [address, number] of numbers) if (number > (numbers.get(most ?? '') ?? 0)) most = address;
  const left = most === undefined ? undefined : oldest.get(most);
  if (left === undefined) return;
  pool.delete(left);
  left.socket.destroy();
}

function headOf(status: number, contentType: string, fields: Readonly<Record<string, string>>): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    `content-type: ${contentType}`,
    ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`),
    'cache-control: no-store',
    'x-content-type-options: nosniff',
    `date: ${new Date().toUTCString()}`,
    'connection: close',
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
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
