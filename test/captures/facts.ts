/**
 * Writes http.json: what tshark says of the HTTP/1 messages in the captures under data/. Run by hand when a capture is added:
 *
 *     node test/captures/facts.ts
 */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { tsharkHttp } from '../support/tshark.ts';
import { CAPTURES, type CaptureFacts, type StreamFacts } from './expected.ts';

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
const version = execFileSync('tshark', ['--version'], { encoding: 'utf8' }).split('\n', 1)[0];
// One line per capture, so that a difference can be read.
const lines = Object.entries(facts).map(([name, capture]) => `  ${JSON.stringify(name)}: ${JSON.stringify(capture)}`);
const json = `{\n "source": ${JSON.stringify(version)},\n "captures": {\n${lines.join(',\n')}\n }\n}\n`;
writeFileSync(new URL('http.json', import.meta.url), json);
