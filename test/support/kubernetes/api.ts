/** What the tests say to the Kubernetes API: plain JSON over HTTPS, one connection pool per identity. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: OwnerReference[];
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller: true;
}

/** An answer that is none of success. */
export class KubernetesError extends Error {
  readonly status: number;

  constructor(method: string, path: string, status: number, body: string) {
    super(`${method} ${path}: ${status} ${body}`);
    this.status = status;
  }
}

interface Resource {
  name: string;
  kind: string;
  namespaced: boolean;
}

export interface CreateOptions {
  /** The server validates, admits and defaults, and stores nothing. Fields that it does not know are an error. */
  dryRun?: boolean;
}

export async function readFiles(files: readonly string[]): Promise<Buffer[]> {
  return Promise.all(files.map((file) => readFile(file)));
}

export class KubernetesApi {
  readonly #url: string;
  readonly #agent: Agent;
  readonly #token: string | undefined;
  readonly #resources = new Map<string, Promise<Resource[]>>();

  constructor(url: string, tls: { ca: Buffer; cert?: Buffer; key?: Buffer }, token?: string) {
    this.#url = url;
    // Not more at once than the server takes from one client without queueing.
    this.#agent = new Agent({ ...tls, keepAlive: true, maxSockets: 32 });
    this.#token = token;
  }

  close(): void {
    this.#agent.destroy();
  }

  /** @throws {KubernetesError} for every status from 300 up */
  async request<T = KubernetesObject>(
    method: string,
    path: string,
    body?: object,
    contentType = 'application/json',
  ): Promise<T> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const sent = request(`${this.#url}${path}`, {
      method,
      agent: this.#agent,
      timeout: 60_000,
      headers: {
        accept: 'application/json',
        ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
        ...(text === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(text) }),
      },
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer to ${method} ${path}`)));
    sent.end(text);
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    const answer = Buffer.concat(chunks).toString();
    const status = response.statusCode ?? 0;
    if (status >= 300) throw new KubernetesError(method, path, status, answer);
    return (response.headers['content-type']?.startsWith('application/json') ? JSON.parse(answer) : answer) as T;
  }

  /** The path of a kind's collection, found by the API's own description of itself. */
  async #collection(apiVersion: string, kind: string, namespace: string | undefined): Promise<string> {
    const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    let known = this.#resources.get(apiVersion);
    if (known === undefined) {
      known = this.request<{ resources: Resource[] }>('GET', base).then(({ resources }) => resources);
      this.#resources.set(apiVersion, known);
      // What comes later, such as a CustomResourceDefinition, is asked for again.
      known.catch(() => this.#resources.delete(apiVersion));
    }
    const resource = (await known).find((each) => each.kind === kind && !each.name.includes('/'));
    if (resource === undefined) {
      this.#resources.delete(apiVersion);
      throw new Error(`the API server does not know ${apiVersion} ${kind}`);
    }
    return resource.namespaced
      ? `${base}/namespaces/${namespace ?? 'default'}/${resource.name}`
      : `${base}/${resource.name}`;
  }

  async pathOf({ apiVersion, kind, metadata }: KubernetesObject): Promise<string> {
    return `${await this.#collection(apiVersion, kind, metadata.namespace)}/${encodeURIComponent(metadata.name)}`;
  }

  async create<T extends KubernetesObject>(object: T, options: CreateOptions = {}): Promise<T> {
    const path = await this.#collection(object.apiVersion, object.kind, object.metadata.namespace);
    const query = options.dryRun ? '?dryRun=All&fieldValidation=Strict' : '?fieldValidation=Strict';
    return this.request<T>('POST', path + query, object);
  }

  async get<T extends KubernetesObject>(object: T): Promise<T> {
    return this.request<T>('GET', await this.pathOf(object));
  }

  /** Changes the fields that are given (a merge patch). @param part such as `status` */
  async patch<T extends KubernetesObject>(object: T, change: object, part?: string): Promise<T> {
    const path = await this.pathOf(object);
    const whole = part === undefined ? path : `${path}/${part}`;
    return this.request<T>('PATCH', whole, change, 'application/merge-patch+json');
  }

  /** Removes it at once: nobody here would end a pod's grace period. */
  async delete(object: KubernetesObject): Promise<void> {
    await this.request('DELETE', await this.pathOf(object), { gracePeriodSeconds: 0, propagationPolicy: 'Background' });
  }
}
