/** Backends that speak OTLP and do to requests what a test wants: gRPC and HTTP, with and without TLS. What they acknowledge is the truth. */
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePort } from '../programs/net.ts';
import { type DecodedSpan, decodeRequest, spansOf } from './decode.ts';

/** ExportTraceServiceResponse { partial_success { rejected_spans, error_message } } */
export function partialSuccess(rejected: number, message: string): Buffer {
  const text = Buffer.from(message);
  const inner = Buffer.concat([Buffer.from([0x08, rejected, 0x12, text.length]), text]);
  return Buffer.concat([Buffer.from([0x0a, inner.length]), inner]);
}

/** Status { code: 8, details: [Any { type_url, RetryInfo { Duration { nanos } } }] }, as grpc-status-details-bin. */
export function retryInfo(milliseconds: number): grpc.Metadata {
  const field = (tag: number, bytes: Buffer) => Buffer.concat([Buffer.from([tag, bytes.length]), bytes]);
  const varint = (value: number): number[] => {
    const bytes: number[] = [];
    for (let rest = value; ; rest = Math.floor(rest / 128)) {
      bytes.push(rest >= 128 ? (rest % 128) | 0x80 : rest);
      if (rest < 128) return bytes;
    }
  };
  const seconds = Math.floor(milliseconds / 1000);
  const duration = Buffer.from([0x08, ...varint(seconds), 0x10, ...varint((milliseconds % 1000) * 1e6)]);
  const any = Buffer.concat([
    field(0x0a, Buffer.from('type.googleapis.com/google.rpc.RetryInfo')),
    field(0x12, field(0x0a, duration)),
  ]);
  const metadata = new grpc.Metadata();
  metadata.set('grpc-status-details-bin', Buffer.concat([Buffer.from([0x08, 8]), field(0x1a, any)]));
  return metadata;
}

export interface TlsOptions {
  key: Buffer;
  cert: Buffer;
  /** Clients must show a certificate of this authority. */
  clientCa?: Buffer;
}

/** One request, as it came. */
export interface BackendRequest {
  spans: number;
  bytes: number;
  atMs: number;
  headers: Record<string, string>;
}

/** What both kinds count. */
class Books {
  /** Acknowledged spans by their ids, and how often each was. */
  readonly received = new Map<string, number>();
  readonly requests: BackendRequest[] = [];
  /** The acknowledged spans themselves, each once. */
  readonly kept: DecodedSpan[] = [];
  concurrent = 0;
  mostConcurrent = 0;

  /** Distinct spans that were acknowledged. */
  get spans(): number {
    return this.received.size;
  }

  protected arrived(body: Buffer, headers: Record<string, string>): DecodedSpan[] {
    this.mostConcurrent = Math.max(this.mostConcurrent, ++this.concurrent);
    const spans = spansOf(decodeRequest(body));
    this.requests.push({ spans: spans.length, bytes: body.length, atMs: performance.now(), headers });
    return spans;
  }

  protected acknowledged(spans: DecodedSpan[]): void {
    for (const span of spans) {
      const id = span.traceId + span.spanId;
      if (!this.received.has(id)) this.kept.push(span);
      this.received.set(id, (this.received.get(id) ?? 0) + 1);
    }
  }
}

/** The text of an attribute; empty when there is none. */
export function textOf(span: DecodedSpan, key: string): string {
  return String(span.attributes.find((attribute) => attribute.key === key)?.value.stringValue ?? '');
}

/** What a gRPC backend does with a request. A response acknowledges all its spans but `rejected`. */
export type GrpcBehaviour = (
  call: grpc.ServerUnaryCall<Buffer, Buffer>,
  respond: (error: Partial<grpc.ServiceError> | null, response?: Buffer, rejected?: number) => void,
) => void;

export const accept: GrpcBehaviour = (_call, respond) => respond(null, Buffer.alloc(0));

export const refuse =
  (code: grpc.status, metadata?: grpc.Metadata): GrpcBehaviour =>
  (_call, respond) =>
    respond({ code, details: 'on purpose', ...(metadata !== undefined && { metadata }) });

/** Does the first thing so often, then the other. */
export function first<Behaviour extends (...args: never[]) => void>(
  times: number,
  before: Behaviour,
  after: Behaviour,
) {
  let left = times;
  return ((...args: Parameters<Behaviour>) => (left-- > 0 ? before : after)(...args)) as Behaviour;
}

export class GrpcBackend extends Books {
  behave: GrpcBehaviour = accept;
  port = 0;
  readonly #tls: TlsOptions | undefined;
  #server = newGrpcServer();

  constructor(tls?: TlsOptions) {
    super();
    this.#tls = tls;
  }

  get endpoint(): string {
    return `${this.#tls === undefined ? 'http' : 'https'}://127.0.0.1:${this.port}`;
  }

  /** At the port that it had before, if any. */
  async start(cleanup?: Cleanup): Promise<this> {
    const identity = (bytes: Buffer): Buffer => bytes;
    this.#server.addService(
      {
        export: {
          path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
          requestStream: false,
          responseStream: false,
          requestSerialize: identity,
          requestDeserialize: identity,
          responseSerialize: identity,
          responseDeserialize: identity,
        },
      },
      { export: this.#take.bind(this) as grpc.UntypedHandleCall },
    );
    if (this.port === 0) this.port = await freePort();
    this.port = await new Promise<number>((resolve, reject) =>
      this.#server.bindAsync(`127.0.0.1:${this.port}`, this.#credentials(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      ),
    );
    cleanup?.add(() => this.stop());
    return this;
  }

  stop(): void {
    this.#server.forceShutdown();
    this.#server = newGrpcServer();
  }

  #credentials(): grpc.ServerCredentials {
    if (this.#tls === undefined) return grpc.ServerCredentials.createInsecure();
    const { key, cert, clientCa } = this.#tls;
    const pairs = [{ private_key: key, cert_chain: cert }];
    return grpc.ServerCredentials.createSsl(clientCa ?? null, pairs, clientCa !== undefined);
  }

  #take(call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>): void {
    const spans = this.arrived(call.request, call.metadata.getMap() as Record<string, string>);
    this.behave(call, (error, response, rejected = 0) => {
      this.concurrent--;
      if (error === null) this.acknowledged(spans.slice(rejected));
      done(error, response);
    });
  }
}

function newGrpcServer(): grpc.Server {
  return new grpc.Server({ 'grpc.max_receive_message_length': 4 * 1024 * 1024 });
}

/** What an HTTP backend does with a request; it answers, and says how many spans it did not take. */
export type HttpBehaviour = (response: ServerResponse, spans: number) => { rejected: number };

export const acceptHttp: HttpBehaviour = (response) => {
  response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
  return { rejected: 0 };
};

export const refuseHttp =
  (status: number, headers: Record<string, string> = {}): HttpBehaviour =>
  (response, spans) => {
    response.writeHead(status, headers).end();
    return { rejected: spans };
  };

export class HttpBackend extends Books {
  behave: HttpBehaviour = acceptHttp;
  readonly #server: Server;
  readonly #scheme: string;
  port = 0;

  constructor(tls?: TlsOptions) {
    super();
    const listener = (request: IncomingMessage, response: ServerResponse): void => void this.#take(request, response);
    this.#scheme = tls === undefined ? 'http' : 'https';
    this.#server =
      tls === undefined
        ? createHttpServer(listener)
        : createHttpsServer(
            { key: tls.key, cert: tls.cert, ...(tls.clientCa && { ca: tls.clientCa, requestCert: true }) },
            listener,
          );
  }

  get endpoint(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`;
  }

  async start(cleanup: Cleanup): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as AddressInfo).port;
    cleanup.add(() => {
      this.#server.close();
      this.#server.closeAllConnections();
    });
    return this;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return;
    }
    const raw = Buffer.concat(chunks);
    const headers = { ...(request.headers as Record<string, string>), ':path': request.url ?? '' };
    const spans = this.arrived(request.headers['content-encoding'] === 'gzip' ? gunzipSync(raw) : raw, headers);
    this.concurrent--;
    const { rejected } = this.behave(response, spans.length);
    this.acknowledged(spans.slice(rejected));
  }
}

/** Lies between an exporter and its backend, and lets through what it is told to. */
export class Wire {
  port = 0;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #stopped = false;

  /** @param target a port of this machine */
  constructor(target: number) {
    this.#target = target;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(cleanup: Cleanup): Promise<this> {
    const server = createTcpServer((near) => {
      const far = connect(this.#target, '127.0.0.1');
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(from);
        from.on('data', (data) => {
          if (to.write(data)) return;
          from.pause();
          to.once('drain', () => this.#resume(from));
        });
        from
          .on('error', () => {})
          .on('close', () => {
            this.#sockets.delete(from);
            to.destroy();
          });
        if (this.#stopped) from.pause();
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.port = (server.address() as AddressInfo).port;
    cleanup.add(() => {
      server.close();
      for (const socket of this.#sockets) socket.destroy();
    });
    return this;
  }

  /** Nothing is read any more: the TCP windows of both sides fill. */
  stop(): void {
    this.#stopped = true;
    for (const socket of this.#sockets) socket.pause();
  }

  resume(): void {
    this.#stopped = false;
    for (const socket of this.#sockets) socket.resume();
  }

  #resume(socket: Socket): void {
    if (!this.#stopped) socket.resume();
  }
}
