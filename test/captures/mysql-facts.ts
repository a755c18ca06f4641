/**
 * Writes mysql.json: what tshark says of the statements in the MySQL captures under data/. Run by hand when a capture is added:
 *
 *     node test/captures/mysql-facts.ts
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { tsharkFields, tsharkServerPort } from '../support/wire/tshark.ts';
import { MYSQL_CAPTURES, type MysqlFacts, type StatementFacts } from './mysql-expected.ts';

const FIELDS = [
  'tcp.stream',
  'mysql.command',
  'mysql.query',
  'mysql.stmt_id',
  'mysql.packet_number',
  'mysql.num_fields',
  'mysql.response_code',
  'mysql.affected_rows',
  'mysql.error_code',
] as const;
const COM_QUERY = 3;
const COM_STMT_PREPARE = 22;
const COM_STMT_EXECUTE = 23;
const EOF = 0xfe;

/** A command and what was counted of its answer. */
interface Seen {
  command: number;
  text: string;
  packets: number;
  columns: number;
  ends: number;
  affected: number;
  error: number;
}

async function factsOf(file: string): Promise<MysqlFacts> {
  const streams = new Map<string, { seen: Seen[]; prepared: Map<string, string> }>();
  const decodeAs = `tcp.port==${await tsharkServerPort(file)},mysql`;
  for (const packet of await tsharkFields(file, 'mysql', FIELDS, [], [decodeAs])) {
    const id = packet['tcp.stream'][0]!;
    const stream = streams.get(id) ?? { seen: [], prepared: new Map<string, string>() };
    streams.set(id, stream);
    const [command] = packet['mysql.command'];
    const [statement] = packet['mysql.stmt_id'];
    if (command !== undefined) {
      const text = packet['mysql.query'][0] ?? stream.prepared.get(statement ?? '') ?? '';
      stream.seen.push({ command: Number(command), text, packets: 0, columns: 0, ends: 0, affected: -1, error: 0 });
      continue;
    }
    const last = stream.seen.at(-1);
    if (last === undefined) continue;
    if (last.command === COM_STMT_PREPARE && statement !== undefined) stream.prepared.set(statement, last.text);
    last.packets += packet['mysql.packet_number'].length;
    last.columns += Number(packet['mysql.num_fields'][0] ?? 0);
    last.ends += packet['mysql.response_code'].filter((code) => Number(code) === EOF).length;
    last.affected = Number(packet['mysql.affected_rows'][0] ?? last.affected);
    last.error = Number(packet['mysql.error_code'][0] ?? last.error);
  }
  const wanted = new Set([COM_QUERY, COM_STMT_EXECUTE]);
  const statements = [...streams.values()].map(({ seen }) =>
    seen.filter((s) => wanted.has(s.command)).map(statementOf),
  );
  return { streams: statements.filter((stream) => stream.length > 0) };
}

/** Of a result set's packets, one is the column count, then there is one per column, and those that end something. */
function statementOf({ command, text, packets, columns, ends, affected, error }: Seen): StatementFacts {
  const rows = columns === 0 ? -1 : packets - 1 - columns - ends;
  return { text, prepared: command === COM_STMT_EXECUTE, rows, affected: columns === 0 ? affected : -1, error };
}

const captures: string[] = [];
for (const name of MYSQL_CAPTURES) {
  const facts = await factsOf(fileURLToPath(new URL(`data/${name}`, import.meta.url)));
  captures.push(`  ${JSON.stringify(name)}: ${JSON.stringify(facts)}`);
}
const version = execFileSync('tshark', ['--version'], { encoding: 'utf8' }).split('\n', 1)[0];
// One line per capture, so that a difference can be read.
const json = `{\n "source": ${JSON.stringify(version)},\n "captures": {\n${captures.join(',\n')}\n }\n}\n`;
writeFileSync(new URL('mysql.json', import.meta.url), json);
