/** What live tests of HTTP/2 share: the place that is watched, the programs at both ends, and what is asked of all spans. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { newCgroup } from '../kernel/cgroup.ts';
import type { FlatSpan } from '../otlp/spans.ts';
import { type Agent, type Stopped, startAgent } from '../programs/agent.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { goCached } from '../programs/go.ts';
import { waitForPort } from '../programs/net.ts';
import { run } from '../programs/process.ts';
import { clientScript } from './clients.ts';
import { type Nginx, type NginxOptions, startNginx } from './nginx.ts';
import { type Server, type ServerOptions, startServer } from './servers.ts';
import { assertPairs, portsOf, targetOf } from './spans.ts';

/** Programs in other languages, for HTTP/2 and gRPC. */
export const PEERS_FOLDER = fileURLToPath(new URL('../grpc/peers', import.meta.url));

/** The program in Go, see peers/go/main.go. */
export const goPeers = (): Promise<string> => goCached('http2-peers', `${PEERS_FOLDER}/go`, 'peers');

/** A server on Go's net/http, see peers/go/http.go. */
export async function startGoServer(cleanup: Cleanup, options: ServerOptions = {}): Promise<Server> {
  return startServer(cleanup, [await goPeers(), 'http-server'], options);
}

export interface Watched {
  /** For servers. */
  prefix: readonly string[];
  /** Runs a program to its end, and returns what it said. */
  inside(...words: string[]): Promise<string>;
  /** Sends requests on one connection, see clients/http2.mjs, and returns how they ended. */
  ask(base: string, asks: readonly object[], options?: { serial?: boolean; peer?: 'js' | 'go' }): Promise<object>;
  agent(): Promise<Agent>;
}

/** An agent that watches one cgroup, so that what it counts is exact; and how to run something in it. */
export async function watched(cleanup: Cleanup): Promise<Watched> {
  const { path, prefix } = await newCgroup(cleanup);
  const inside = async (...words: string[]): Promise<string> => {
    const [command, ...rest] = [...prefix, ...words];
    return (await run(command!, rest, { timeoutMs: 120_000 })).stdout;
  };
  return {
    prefix,
    inside,
    async ask(base, asks, { serial = false, peer = 'js' } = {}) {
      const words = peer === 'go' ? [await goPeers(), 'http-client'] : [process.execPath, clientScript('http2.mjs')];
      return JSON.parse(await inside(...words, base, JSON.stringify({ serial, asks }))) as object;
    },
    agent: () => startAgent(cleanup, { args: ['--cgroup', path] }),
  };
}

/** nginx with HTTP/2 in the place that is watched. */
export async function nginxIn(cleanup: Cleanup, prefix: readonly string[], options: NginxOptions = {}): Promise<Nginx> {
  const nginx = await startNginx(cleanup, { workers: 2, http2: true, prefix, ...options });
  for (const port of portsOf(nginx)) await waitForPort(port);
  return nginx;
}

/** All spans are those of these many exchanges, each with both of its ends; nothing else was counted. */
export function assertExact(stopped: Stopped, exchanges: number, incomplete: Record<string, number> = {}): void {
  const { stats, spans } = stopped;
  assert.equal(spans.length, 2 * exchanges);
  assertPairs(spans);
  assert.deepEqual([stats.exchanges, stats.incomplete, stats.parseErrors], [{ http: exchanges }, incomplete, {}]);
  assert.deepEqual([stats.spans.made, stats.spans.exported, stats.spans.dropped], [2 * exchanges, 2 * exchanges, {}]);
  assert.deepEqual([stats.packets.lost, stats.connections.undecryptable], [0, {}]);
}

/** `METHOD TARGET STATUS BYTES`, or the error in the place of a status. */
export function lineOf(span: FlatSpan): string {
  const { attributes } = span;
  const status = attributes['http.response.status_code'] ?? attributes['error.type'];
  return `${attributes['http.request.method']} ${targetOf(span)} ${status} ${attributes['http.response.body.size'] ?? 0}`;
}

/** The same of what a server said. */
export const lineOfAnswer = ({ method, target, status, bodyBytes }: ReturnType<Server['log']>[number]): string =>
  `${method} ${target} ${status} ${bodyBytes}`;
