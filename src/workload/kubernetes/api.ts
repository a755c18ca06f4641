/** Requests to the API server: lists in pages, watches, single objects; by Node's own HTTP, with the credentials of a KubeConfig. */
import { type Agent, type IncomingMessage, request as requestHttp } from 'node:http';
import { type RequestOptions, request as requestHttps } from 'node:https';
import { StringDecoder } from 'node:string_decoder';
import type { KubeConfig } from './client.ts';
import { type ApiObject, listAt, objectAt, textAt } from './objects.ts';

/** Objects of a page: one of pods is about a megabyte, and is parsed in one turn of the event loop. */
const PAGE_OBJECTS = 100;
const MAX_PAGES = 100_000;
const MAX_BODY_BYTES = 64 * 1024 * 1024;
/** One line is one event, that is one object; etcd holds none of more than a few megabytes. */
const MAX_LINE_CHARACTERS = 16 * 1024 * 1024;
const MAX_MESSAGE_CHARACTERS = 300;

export interface ApiOptions {
  /** Reads the configuration again: at first, and when the API server does not accept its credentials any more. */
  readonly configure: () => KubeConfig;
  /** An answer has to begin, and to go on, within this time. */
  readonly timeoutMs?: number;
  /**
   * The same for a watch, on which the server sends a bookmark every minute or so. Longer than that; but a server that hangs is not
   * noticed before.
   */
  readonly watchIdleMs?: number;
  /** The server ends a watch in order after this time or up to twice as much. */
  readonly watchSeconds?: number;
  /** From 0 to 1. */
  readonly random?: () => number;
}

/** The API server said no. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly statusCode: number;

  constructor(statusCode: number, message: string) {
    super(`${statusCode} ${message.slice(0, MAX_MESSAGE_CHARACTERS)}`);
    this.statusCode = statusCode;
  }
}

export type Query = Readonly<Record<string, string | number | undefined>>;

/** Takes part in a watch. */
export interface WatchListener {
  /** The server has accepted the watch: nothing is missed from now on. */
  open(): void;
  event(type: string, object: ApiObject): void;
  /** Called once, last. Without an error, the watch ended in order. */
  end(error: Error | undefined): void;
}

/** Metadata alone, of an object or of a list of them. */
export const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json';

export class Api {
  readonly #options: Required<ApiOptions>;
  #config: KubeConfig | undefined;
  #agent: Agent | undefined;

  constructor(options: ApiOptions) {
    this.#options = { timeoutMs: 30_000, watchIdleMs: 150_000, watchSeconds: 300, random: Math.random, ...options };
  }

  /** Ends all requests, with an error. */
  close(): void {
    this.#agent?.destroy();
  }

  /** @throws ApiError, Error of the network */
  async get(path: string, query: Query = {}, accept = 'application/json'): Promise<ApiObject> {
    const response = await this.#open(path, query, accept, this.#options.timeoutMs);
    const text = await readBody(response, MAX_BODY_BYTES);
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) throw new Error('the API server answered with no object');
    return value as ApiObject;
  }

  /**
   * Goes through all objects of a collection, page by page.
   * @returns the resource version from which a watch goes on
   * @throws ApiError, Error of the network; some objects may have been taken by then
   */
  async list(path: string, query: Query, take: (object: ApiObject) => void): Promise<string> {
    let next = '';
    for (let pages = 0; pages < MAX_PAGES; pages++) {
      const page = await this.get(path, { ...query, limit: PAGE_OBJECTS, continue: next || undefined });
      for (const object of listAt(page, 'items'))
        if (typeof object === 'object' && object !== null) take(object as ApiObject);
      const metadata = objectAt(page, 'metadata');
      next = textAt(metadata, 'continue');
      if (next === '') return textAt(metadata, 'resourceVersion');
    }
    throw new Error('the API server’s list does not end');
  }

  /** @returns what ends the watch; the listener then gets its end like any other */
  watch(path: string, query: Query, listener: WatchListener): AbortController {
    const { watchIdleMs, watchSeconds, random } = this.#options;
    const controller = new AbortController();
    const timeoutSeconds = Math.round(watchSeconds * (1 + random()));
    this.#open(
      path,
      { ...query, watch: 'true', allowWatchBookmarks: 'true', timeoutSeconds },
      'application/json',
      watchIdleMs,
      controller.signal,
    )
      .then(async (response) => {
        listener.open();
        await readEvents(response, (type, object) => listener.event(type, object));
      })
      .then(
        () => listener.end(undefined),
        (error: unknown) => listener.end(error instanceof Error ? error : new Error(String(error))),
      );
    return controller;
  }

  /** Makes a request. @returns the response once its status is 200 */
  async #open(
    path: string,
    query: Query,
    accept: string,
    idleMs: number,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    this.#config ??= this.#options.configure();
    const config = this.#config;
    const server = config.getCurrentCluster()?.server;
    if (server === undefined) throw new Error('the kubeconfig names no cluster');
    const url = new URL(server.replace(/\/$/, '') + path);
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(name, String(value));
    const options: RequestOptions = { method: 'GET', headers: {} };
    await config.applyToHTTPSOptions(options);
    if (typeof options.agent === 'object' && options.agent !== this.#agent) {
      this.#agent?.destroy();
      this.#agent = options.agent;
      // The library makes one that opens a connection for each page of a list.
      Object.assign(this.#agent, { keepAlive: true });
    }
    options.headers = { ...options.headers, accept, 'user-agent': 'wirespan' };
    if (signal !== undefined) options.signal = signal;
    const response = await responseTo(url, options, idleMs);
    if (response.statusCode === 200) return response;
    const status = response.statusCode ?? 0;
    // The next request reads token and certificates again, however old those in use are.
    if (status === 401) this.#config = undefined;
    throw new ApiError(status, await readMessage(response));
  }
}

function responseTo(url: URL, options: RequestOptions, idleMs: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'http:' ? requestHttp : requestHttps)(url, options, resolve);
    // Of the socket, so that it holds while the body comes, too.
    request.setTimeout(idleMs, () => request.destroy(new Error(`the API server was silent for ${idleMs / 1000} s`)));
    request.on('error', reject);
    request.end();
  });
}

async function readBody(response: IncomingMessage, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) throw new Error(`the API server’s answer is longer than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length).toString();
}

/** Status of the API (meta/v1): its message says what is forbidden to whom. */
async function readMessage(response: IncomingMessage): Promise<string> {
  try {
    const text = await readBody(response, MAX_MESSAGE_CHARACTERS * 100);
    try {
      return textAt(JSON.parse(text), 'message') || (response.statusMessage ?? '');
    } catch {
      return text;
    }
  } catch {
    return response.statusMessage ?? '';
  }
}

/** One JSON object in each line: `{"type":"ADDED","object":{...}}`. */
async function readEvents(response: IncomingMessage, take: (type: string, object: ApiObject) => void): Promise<void> {
  const decoder = new StringDecoder('utf8');
  let pending = '';
  for await (const chunk of response as AsyncIterable<Buffer>) {
    const text = decoder.write(chunk);
    let start = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
      const line = pending + text.slice(start, end);
      pending = '';
      start = end + 1;
      if (line === '') continue;
      const event: unknown = JSON.parse(line);
      take(textAt(event, 'type'), objectAt(event, 'object'));
    }
    pending += text.slice(start);
    if (pending.length > MAX_LINE_CHARACTERS) throw new Error('the API server sends an event that does not end');
  }
}
