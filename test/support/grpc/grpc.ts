/** What tests of gRPC ask of spans, and the programs that make and answer the calls. */
import assert from 'node:assert/strict';
import { STATUS_NAMES } from '../../../src/protocol/grpc/status.ts';
import { clientScript } from '../http/clients.ts';
import { goPeers, PEERS_FOLDER } from '../http/http2-peers.ts';
import { type AnsweredCall, type Server, type ServerOptions, serverScript, startServer } from '../http/servers.ts';
import { assertPairs } from '../http/spans.ts';
import { newCgroup } from '../kernel/cgroup.ts';
import type { FlatSpan } from '../otlp/spans.ts';
import { type Agent, type Stopped, startAgent } from '../programs/agent.ts';
import { type Certificate, selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { run } from '../programs/process.ts';
import { pythonPackages } from '../programs/python.ts';

/** Calls for a client to make: see clients/grpc.mjs. */
export interface Calls {
  path: string;
  count?: number;
  /** Messages of each. */
  requests?: number;
  ask?: object;
  deadlineMs?: number;
  cancelMs?: number;
  metadata?: Record<string, string>;
}

/** How a call ended for the client. */
export interface Ended {
  path: string;
  status: number;
  requests: number;
  responses: number;
}

/** Whose client or server. `go`: grpc-go, with Go's TLS. `python`: grpcio, with its own BoringSSL. */
export type Peer = 'js' | 'go' | 'python';

async function program(peer: Peer, role: 'server' | 'client'): Promise<{ words: string[]; env?: typeof process.env }> {
  switch (peer) {
    case 'js':
      return {
        words: [process.execPath, role === 'server' ? serverScript('grpc-server.mjs') : clientScript('grpc.mjs')],
      };
    case 'go':
      return { words: [await goPeers(), `grpc-${role}`] };
    case 'python': {
      const env = {
        PYTHONPATH: await pythonPackages('http2-peers', PEERS_FOLDER, 'grpc'),
        PYTHONDONTWRITEBYTECODE: '1',
      };
      return { words: ['python3', `${PEERS_FOLDER}/grpc_peer.py`, role], env };
    }
  }
}

/** Makes ready what the peers need, so that no test's time goes into it. */
export async function prepareGrpcPeers(): Promise<void> {
  await Promise.all([program('go', 'server'), program('python', 'server')]);
}

export type GrpcServer = Omit<Server, 'log'> & { log(): AnsweredCall[] };

/** A server of test.Calls with Unary, Upload, Download and Chat, see servers/grpc-server.mjs. */
export async function startGrpcServer(
  cleanup: Cleanup,
  options: ServerOptions = {},
  peer: Peer = 'js',
): Promise<GrpcServer> {
  const { words, env } = await program(peer, 'server');
  const server = await startServer(cleanup, words, { ...options, ...(env !== undefined && { env }) });
  return { ...server, log: () => server.log() as unknown as AnsweredCall[] };
}

/** Where calls are made and seen: server, client and agent share a cgroup. */
export interface Watched {
  /** For servers. */
  secure: ServerOptions & { prefix: readonly string[] };
  ask(
    port: number,
    calls: readonly Calls[],
    options?: { peer?: Peer; compress?: boolean; certFile?: string },
  ): Promise<Ended[]>;
  agent(args?: readonly string[]): Promise<Agent>;
}

export async function watchedCalls(cleanup: Cleanup, tls: boolean): Promise<Watched> {
  const { path, prefix } = await newCgroup(cleanup);
  const certificate: Certificate | undefined = tls ? await selfSigned(cleanup) : undefined;
  const secure = certificate === undefined ? { tls } : { tls, certificate };
  return {
    secure: { ...secure, prefix },
    async ask(port, calls, { peer = 'js', compress = false, certFile = certificate?.certFile ?? '-' } = {}) {
      const { words, env } = await program(peer, 'client');
      const task = [`127.0.0.1:${port}`, certFile, JSON.stringify({ compress, calls })];
      const [command, ...args] = [...prefix, ...words, ...task];
      const { stdout } = await run(command!, args, { timeoutMs: 120_000, ...(env !== undefined && { env }) });
      return JSON.parse(stdout) as Ended[];
    },
    agent: (args = []) => startAgent(cleanup, { args: ['--cgroup', path, ...args] }),
  };
}

/** All spans are those of these many calls, each with both of its ends; nothing else was counted. */
export function assertExactCalls(
  { stats, spans }: Stopped,
  calls: number,
  incomplete: Record<string, number> = {},
): void {
  assert.equal(spans.length, 2 * calls);
  assertPairs(spans);
  assert.deepEqual([stats.exchanges, stats.incomplete, stats.parseErrors], [{ grpc: calls }, incomplete, {}]);
  assert.deepEqual([stats.spans.made, stats.spans.exported, stats.spans.dropped], [2 * calls, 2 * calls, {}]);
  assert.deepEqual([stats.packets.lost, stats.connections.undecryptable], [0, {}]);
}

/** Of which statuses it is the server's fault, by the semantic conventions. */
const BLAMED = ['UNKNOWN', 'DEADLINE_EXCEEDED', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'];

/** Whoever's fault it is, and nobody else, has an error, of the status's name; nothing that the server said about it is told. */
export function assertErrors(spans: readonly FlatSpan[]): void {
  for (const { attributes, kind, status } of spans) {
    const said = String(attributes['rpc.status_code']);
    const failed = kind === 'CLIENT' ? said !== 'OK' : BLAMED.includes(said);
    assert.deepEqual([attributes['error.type'], status.code], failed ? [said, 2] : [undefined, 0], `${kind} ${said}`);
  }
  assert.doesNotMatch(JSON.stringify(spans), /not for traces/);
}

/** All spans are of calls to this port. */
export function assertServer(spans: readonly FlatSpan[], port: number, tls: boolean): void {
  for (const { attributes } of spans) {
    assert.deepEqual(
      [attributes['rpc.system.name'], attributes['server.port'], attributes['tls.protocol.version']],
      ['grpc', port, tls ? '1.3' : undefined],
    );
  }
}

export const clients = (spans: readonly FlatSpan[]): FlatSpan[] => spans.filter((span) => span.kind === 'CLIENT');

/** `METHOD STATUS REQUESTS/RESPONSES`, as the span, the server and the client have it. */
export function lineOf({ attributes }: FlatSpan): string {
  const said = ['request', 'response'].map((side) => attributes[`wirespan.rpc.${side}.messages`]);
  return `${attributes['rpc.method']} ${attributes['rpc.status_code']} ${said.join('/')}`;
}

export const lineOfCall = ({ method, status, requests, responses }: AnsweredCall): string =>
  `test.Calls/${method} ${STATUS_NAMES[status]} ${requests}/${responses}`;

export const lineOfEnd = ({ path, status, requests, responses }: Ended): string =>
  `${path.slice(1)} ${STATUS_NAMES[status]} ${requests}/${responses}`;

/** `METHOD BYTES BYTES`: of the messages of each direction. */
export function sizesOf({ attributes, name }: FlatSpan): string {
  return `${name} ${attributes['wirespan.rpc.request.size']} ${attributes['wirespan.rpc.response.size']}`;
}

export const sizesOfCall = ({ method, requestBytes, responseBytes }: AnsweredCall): string =>
  `test.Calls/${method} ${requestBytes} ${responseBytes}`;

/** How many spans there are of each method and status. */
export function statuses(spans: readonly FlatSpan[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { name, attributes } of spans) {
    const key = `${name} ${attributes['rpc.status_code']}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}
