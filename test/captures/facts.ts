/**
 * Writes http.json: what tshark says of the HTTP/1 messages, and the HTTP/2 streams, in the captures under data/. Run by hand when a capture is added:
 *
 *     node test/captures/facts.ts
 */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { tsharkFields, tsharkHttp, tsharkServerPort } from '../support/wire/tshark.ts';
import {
  CAPTURES,
  type CaptureFacts,
  GRPC_CAPTURES,
  type GrpcFacts,
  HTTP2_CAPTURES,
  type Http2Facts,
  type StreamFacts,
} from './expected.ts';

const data = (name: string): string => fileURLToPath(new URL(`data/${name}`, import.meta.url));

const facts: Record<string, CaptureFacts> = {};
for (const name of CAPTURES) {
  const keylog = `${data(name)}.keylog`;
  const options = existsSync(keylog) ? [`tls.keylog_file:${keylog}`] : [];
  const streams = new Map<number, StreamFacts>();
  for (const message of await tsharkHttp(data(name), options)) {
    const stream = streams.get(message.stream) ?? { requests: [], statuses: [] };
    streams.set(message.stream, stream);
    if (message.method !== undefined) stream.requests.push([message.method, message.target ?? '']);
    // An interim response is part of the exchange that its final response ends (RFC 9110 section 15.2).
    const status = message.status ?? 0;
    if (status >= 200 || status === 101) stream.statuses.push(status);
  }
  facts[name] = { streams: [...streams.values()] };
}
/** The streams of the one connection in a capture: fields that a frame lacks are empty, so frames are read one packet field at a time. */
async function http2Streams(name: string): Promise<Http2Facts[]> {
  const names = [
    'tcp.srcport',
    'tcp.dstport',
    'http2.streamid',
    'http2.type',
    'http2.headers.method',
    'http2.headers.path',
    'http2.headers.status',
    'http2.length',
  ] as const;
  const port = await tsharkServerPort(data(name));
  const streams = new Map<string, Http2Facts>();
  for (const packet of await tsharkFields(data(name), 'http2', names, [], [`tcp.port==${port},http2`])) {
    const fromClient = packet['tcp.dstport'][0] === port;
    packet['http2.type'].forEach((type, at) => {
      const id = packet['http2.streamid'][at] ?? '0';
      if (id === '0') return;
      const stream = streams.get(id) ?? { method: '', path: '', status: 0, requestBytes: 0, responseBytes: 0 };
      streams.set(id, stream);
      if (type !== '0') return;
      stream[fromClient ? 'requestBytes' : 'responseBytes'] += Number(packet['http2.length'][at] ?? 0);
    });
    // One stream in each of these captures.
    const [only] = streams.values();
    if (only === undefined) continue;
    only.method ||= packet['http2.headers.method'][0] ?? '';
    only.path ||= packet['http2.headers.path'][0] ?? '';
    only.status ||= Number(packet['http2.headers.status'][0] ?? 0);
  }
  return [...streams.values()];
}

const http2: Record<string, Http2Facts[]> = {};
for (const name of HTTP2_CAPTURES) http2[name] = await http2Streams(name);

/** The one call in a capture. */
async function grpcCall(name: string): Promise<GrpcFacts> {
  const port = await tsharkServerPort(data(name));
  const call = { requestMessages: 0, responseMessages: 0, requestMessageBytes: 0, responseMessageBytes: 0 };
  const names = ['tcp.dstport', 'grpc.message_length'] as const;
  for (const packet of await tsharkFields(data(name), 'grpc', names, [], [`tcp.port==${port},http2`])) {
    const side = packet['tcp.dstport'][0] === port ? 'request' : 'response';
    for (const length of packet['grpc.message_length']) {
      call[`${side}Messages`]++;
      call[`${side}MessageBytes`] += Number(length);
    }
  }
  return call;
}

const grpc: Record<string, GrpcFacts[]> = {};
for (const name of GRPC_CAPTURES) grpc[name] = [await grpcCall(name)];

const version = execFileSync('tshark', ['--version'], { encoding: 'utf8' }).split('\n', 1)[0];
// One line per capture, so that a difference can be read.
const lines = Object.entries(facts).map(([name, capture]) => `  ${JSON.stringify(name)}: ${JSON.stringify(capture)}`);
const streamLines = Object.entries(http2).map(([name, list]) => `  ${JSON.stringify(name)}: ${JSON.stringify(list)}`);
const callLines = Object.entries(grpc).map(([name, list]) => `  ${JSON.stringify(name)}: ${JSON.stringify(list)}`);
const json = `{
 "source": ${JSON.stringify(version)},
 "captures": {
${lines.join(',\n')}
 },
 "http2": {
${streamLines.join(',\n')}
 },
 "grpc": {
${callLines.join(',\n')}
 }
}
`;
writeFileSync(new URL('http.json', import.meta.url), json);
