/** Real HTTP/2 bytes: Node's client and server (nghttp2) over loopback, recorded between them. */
import http2 from 'node:http2';
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';

/** One segment of a recording. */
export interface Segment {
  readonly direction: Direction;
  readonly bytes: Buffer;
}

export type Conversation = (client: http2.ClientHttp2Session) => Promise<void>;

export interface RecordOptions {
  readonly server?: http2.ServerOptions;
  readonly client?: http2.ClientSessionOptions;
  readonly onStream?: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;
  readonly onSession?: (session: http2.ServerHttp2Session) => void;
}

const listening = (server: ReturnType<typeof createServer> | http2.Http2Server): Promise<number> =>
  new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });

/** Runs a conversation through a proxy and returns what passed, in the order of its passing. */
export async function record(conversation: Conversation, options: RecordOptions = {}): Promise<Segment[]> {
  const segments: Segment[] = [];
  const server = http2.createServer(options.server ?? {});
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    (options.onStream ?? echo)(stream, headers);
  });
  server.on('session', (session) => options.onSession?.(session));
  server.on('sessionError', () => {});
  const port = await listening(server);
  const proxy = createServer((near: Socket) => {
    const far = dial(port, '127.0.0.1');
    const join = (from: Socket, to: Socket, direction: Direction): void => {
      from.on('data', (bytes) => {
        segments.push({ direction, bytes: Buffer.from(bytes) });
        to.write(bytes);
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
    };
    join(near, far, FROM_CLIENT);
    join(far, near, FROM_SERVER);
  });
  const proxyPort = await listening(proxy);
  const client = http2.connect(`http://127.0.0.1:${proxyPort}`, options.client);
  client.on('error', () => {});
  try {
    await conversation(client);
  } finally {
    await new Promise<void>((resolve) => {
      if (client.destroyed) resolve();
      else client.close(() => resolve());
    });
    client.destroy();
    proxy.close();
    server.close();
  }
  return segments;
}

/** Answers `:path` /STATUS/BYTES with that status and so many bytes of body. */
function echo(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
  const [, status = '200', bytes = '0'] = (headers[':path'] ?? '').split('?')[0]!.split('/');
  stream.respond({ ':status': Number(status) || 200, 'content-type': 'text/plain', server: 'node' });
  stream.end('x'.repeat(Number(bytes) || 0));
  stream.resume();
}

/** Sends one request and waits for the end of its answer. */
export function ask(
  client: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: string,
): Promise<{ status: number; bytes: number }> {
  return new Promise((resolve, reject) => {
    const stream = client.request(headers, { endStream: body === undefined });
    let status = 0;
    let bytes = 0;
    stream.on('response', (fields) => {
      status = Number(fields[':status']);
    });
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    stream.on('end', () => resolve({ status, bytes }));
    stream.on('error', reject);
    if (body !== undefined) stream.end(body);
  });
}
