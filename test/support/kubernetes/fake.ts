/**
 * A stand-in for the API server that does what a real one does rarely, and when it is told to: refuses, hangs, forgets its history, breaks
 * off. Lists in pages and watches, nothing else.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Cleanup } from '../programs/cleanup.ts';

export interface FakeObject {
  metadata: { name: string; namespace?: string; uid?: string; resourceVersion?: string; [key: string]: unknown };
  [key: string]: unknown;
}

interface Event {
  version: number;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  path: string;
  object: FakeObject;
}

interface Watcher {
  path: string;
  response: ServerResponse;
}

export interface Request {
  path: string;
  query: URLSearchParams;
  authorization: string | undefined;
  accept: string | undefined;
}

export class FakeApi {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #objects = new Map<string, Map<string, FakeObject>>();
  #events: Event[] = [];
  #version = 100;
  /** Versions before this one are forgotten. */
  #oldest = 0;
  readonly #watchers = new Set<Watcher>();
  #port = 0;
  readonly requests: Request[] = [];
  /** Every request is answered with this status; 0: as usual. */
  refuseWith = 0;
  /** Nothing is answered. */
  hangs = false;
  /** Whoever does not say this is refused with 401. */
  token: string | undefined;

  constructor() {
    this.#server = createServer((request, response) => this.#handle(request, response));
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  async start(cleanup?: Cleanup): Promise<this> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    this.#port = typeof address === 'object' && address !== null ? address.port : 0;
    cleanup?.add(() => this.kill());
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** As a crash would: the connections break off, and the port is closed. */
  async kill(): Promise<void> {
    this.#watchers.clear();
    const closed = this.#server.listening ? once(this.#server, 'close') : undefined;
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  get watches(): number {
    return this.#watchers.size;
  }

  requestsTo(path: string, watch?: boolean): Request[] {
    return this.requests.filter(
      (each) => each.path === path && (watch === undefined || each.query.has('watch') === watch),
    );
  }

  /** Creates or replaces. */
  set(path: string, object: FakeObject): void {
    const objects = this.#of(path);
    const key = keyOf(object);
    this.#tell({ type: objects.has(key) ? 'MODIFIED' : 'ADDED', path, object });
    objects.set(key, object);
  }

  delete(path: string, object: FakeObject): void {
    if (this.#of(path).delete(keyOf(object))) this.#tell({ type: 'DELETED', path, object });
  }

  /** What has happened until now cannot be watched any more. */
  forgetHistory(): void {
    this.#oldest = this.#version;
    this.#events = [];
  }

  /** Ends all watches in order, as a server does after some minutes. */
  endWatches(): void {
    for (const { response } of this.#watchers) response.end();
    this.#watchers.clear();
  }

  /** Breaks off all connections. */
  breakOff(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#watchers.clear();
  }

  bookmark(): void {
    this.#version++;
    const object = { metadata: { name: '', resourceVersion: String(this.#version) } };
    for (const { response } of this.#watchers) response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
  }

  #of(path: string): Map<string, FakeObject> {
    let objects = this.#objects.get(path);
    if (objects === undefined) {
      objects = new Map();
      this.#objects.set(path, objects);
    }
    return objects;
  }

  #tell(event: Omit<Event, 'version'>): void {
    const version = ++this.#version;
    event.object.metadata.resourceVersion = String(version);
    const whole = { ...event, version };
    this.#events.push(whole);
    for (const watcher of this.#watchers) if (watcher.path === event.path) send(watcher, whole);
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', this.url);
    const { authorization, accept } = request.headers;
    this.requests.push({ path: url.pathname, query: url.searchParams, authorization, accept });
    if (this.hangs) return;
    if (this.token !== undefined && authorization !== `Bearer ${this.token}`) refuse(response, 401);
    else if (this.refuseWith !== 0) refuse(response, this.refuseWith);
    else if (url.searchParams.get('watch') === 'true') this.#watch(url, response);
    else if (this.#objects.has(url.pathname)) this.#list(url, response);
    else this.#get(url, response);
  }

  #list(url: URL, response: ServerResponse): void {
    const all = [...this.#of(url.pathname).values()];
    const start = Number(url.searchParams.get('continue') ?? 0);
    const limit = Number(url.searchParams.get('limit') ?? all.length);
    const end = Math.min(all.length, start + limit);
    const metadata = { resourceVersion: String(this.#version), ...(end < all.length && { continue: String(end) }) };
    answer(response, { metadata, items: all.slice(start, end) });
  }

  #get(url: URL, response: ServerResponse): void {
    const slash = url.pathname.lastIndexOf('/');
    const [, group, namespace, kind] =
      /^(\/.*)\/namespaces\/([^/]+)\/([^/]+)$/.exec(url.pathname.slice(0, slash)) ?? [];
    const object = this.#objects.get(`${group}/${kind}`)?.get(`${namespace}/${url.pathname.slice(slash + 1)}`);
    if (object === undefined) refuse(response, 404);
    else answer(response, object);
  }

  #watch(url: URL, response: ServerResponse): void {
    const version = Number(url.searchParams.get('resourceVersion'));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (version < this.#oldest) {
      const object = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
      response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
      return;
    }
    const watcher = { path: url.pathname, response };
    for (const event of this.#events) if (event.path === url.pathname && event.version > version) send(watcher, event);
    this.#watchers.add(watcher);
    response.on('close', () => this.#watchers.delete(watcher));
  }
}

function keyOf({ metadata }: FakeObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

function send({ response }: Watcher, { type, object }: Event): void {
  response.write(`${JSON.stringify({ type, object })}\n`);
}

function answer(response: ServerResponse, body: object): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number): void {
  const body = { kind: 'Status', code: status, message: `refused with ${status}` };
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
