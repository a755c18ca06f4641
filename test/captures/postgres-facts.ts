/**
 * Writes postgres.json: what tshark says of the statements in the PostgreSQL captures under data/. Run by hand when a capture is added:
 *
 *     node test/captures/postgres-facts.ts
 */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { tsharkFields, tsharkServerPort } from '../support/wire/tshark.ts';
import { POSTGRES_CAPTURES, type PostgresStreamFacts } from './postgres-expected.ts';

const FIELDS = ['tcp.stream', 'pgsql.type', 'pgsql.frontend', 'pgsql.query', 'pgsql.tag', 'pgsql.code'] as const;

async function factsOf(file: string): Promise<PostgresStreamFacts[]> {
  const port = await tsharkServerPort(file);
  const streams = new Map<string, PostgresStreamFacts & { rows: number }>();
  const keylog = existsSync(`${file}.keylog`) ? [`tls.keylog_file:${file}.keylog`] : [];
  for (const packet of await tsharkFields(file, 'pgsql', FIELDS, [`pgsql.tcp.port:${port}`, ...keylog])) {
    const id = packet['tcp.stream'][0]!;
    const stream = streams.get(id) ?? { texts: [], answers: [], rows: 0 };
    streams.set(id, stream);
    const tags = [...packet['pgsql.tag']];
    // A notice has a code, too.
    const codes = [...packet['pgsql.code']];
    for (const type of packet['pgsql.type']) {
      if (type === 'Data row') stream.rows++;
      else if (type === 'Notice') codes.shift();
      else if (type === 'Command completion' || type === 'Error') {
        const failed = type === 'Error';
        const answer = { tag: failed ? '' : tags.shift()!, code: failed ? codes.shift()! : '', rows: stream.rows };
        stream.answers.push(answer);
        stream.rows = 0;
      }
    }
    stream.texts.push(...packet['pgsql.query']);
  }
  return [...streams.values()].map(({ texts, answers }) => ({ texts, answers }));
}

const captures: string[] = [];
for (const name of POSTGRES_CAPTURES) {
  const facts = await factsOf(fileURLToPath(new URL(`data/${name}`, import.meta.url)));
  captures.push(`  ${JSON.stringify(name)}: ${JSON.stringify(facts)}`);
}
const version = execFileSync('tshark', ['--version'], { encoding: 'utf8' }).split('\n', 1)[0];
// One line per capture, so that a difference can be read.
const json = `{\n "source": ${JSON.stringify(version)},\n "captures": {\n${captures.join(',\n')}\n }\n}\n`;
writeFileSync(new URL('postgres.json', import.meta.url), json);
