/** The HTTP/2 benchmark: nginx with two workers and h2load over TLS, both cores saturated, without the agent and with it. */

import { startNginx } from '../support/http/nginx.ts';
import { startSink } from '../support/otlp/sink.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { type Http2Load, h2loadHttp2, median, percent } from './lib.ts';
import { alternate, type LiveOptions, printStages, stages } from './live.ts';

/** From one request after the other on each connection to as many at once as HTTP/2 is made for. */
const LOADS: readonly Http2Load[] = [
  { connections: 50, streams: 1 },
  { connections: 10, streams: 10 },
  { connections: 10, streams: 100 },
];
const WARM_UP_REQUESTS = 50_000;

export async function http2Bench(options: LiveOptions) {
  const cleanup = new Cleanup();
  try {
    const nginx = await startNginx(cleanup, { workers: 2, log: false, http2: true });
    const sink = await startSink(cleanup);
    const url = `https://127.0.0.1:${nginx.tls13Port}/200`;
    const pairings = [];
    for (const load of LOADS) {
      const { requestsPerSecond } = await h2loadHttp2(url, WARM_UP_REQUESTS, load);
      // A fixed number, so that what was seen can be compared exactly.
      const requests = Math.round((requestsPerSecond * options.seconds) / 1000) * 1000;
      const name = `h2load -c${load.connections} -m${load.streams}`;
      pairings.push(await alternate(name, options, nginx, sink, () => h2loadHttp2(url, requests, load)));
    }
    const profile = await stages(sink, () => h2loadHttp2(url, 4 * WARM_UP_REQUESTS, LOADS.at(-1)!));
    return { pairings, profile };
  } finally {
    await cleanup.run();
  }
}

export function printHttp2({ pairings, profile }: Awaited<ReturnType<typeof http2Bench>>): void {
  for (const pairing of pairings) {
    console.log(
      `${pairing.name} over TLS: ${median(pairing.without).toFixed(0)} -> ${median(pairing.with).toFixed(0)} requests/s, ` +
        `kept ${percent(median(pairing.kept))} (at least ${percent(0.6)}); ` +
        `agent ${median(pairing.agentMicrosecondsPerExchange).toFixed(2)} us of CPU per exchange beside ` +
        `${median(pairing.serverAndClientMicrosecondsPerRequest).toFixed(2)} us of server and client per request; ` +
        `spans lost at saturation ${percent(median(pairing.lostShare))}`,
    );
  }
  printStages(profile);
}
