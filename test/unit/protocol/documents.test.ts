/** The wire documents of all protocols under test/golden, through the PROXY layer and the detection. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FROM_CLIENT } from '../../../src/flow/connection.ts';
import { root } from '../../support/programs/paths.ts';
import { type Case, escaped, readCases, type Step, splits, unescaped } from '../../support/protocols/cases.ts';
import { formatCase, WireRun } from '../../support/protocols/documents.ts';

/** What begins a message of the client and is cut there: it must change nothing of what came before it. None: not tried. */
const CUT_MESSAGE: Readonly<Record<string, string>> = {
  grpc: '\\0\\0\\x04',
  http2: '\\0\\0\\x04',
  mysql: '\\x05\\0\\0',
  postgresql: 'Q\\0\\0',
  websocket: '\\x81',
};
/** These have test files of their own, which feed the same format to their layers. */
const ELSEWHERE = ['http1', 'redis'];
/** Golden files of another kind. */
const OTHER_KINDS = ['chart', 'hpack', 'rfc8448', 'spans'];

const golden = (folder: string): string[] => readdirSync(join(root, 'test/golden', folder));

const folders = readdirSync(join(root, 'test/golden')).filter((folder) => !OTHER_KINDS.includes(folder));

for (const folder of folders.filter((each) => !ELSEWHERE.includes(each))) {
  const cut = CUT_MESSAGE[folder];
  for (const file of golden(folder)) {
    describe(`${folder}/${file}`, () => {
      for (const c of readCases(`${folder}/${file}`)) {
        test(c.name, () => {
          check(c, c.steps);
          if (!c.flags.has('nosplit')) for (const steps of splits(c.steps, 1)) check(c, steps);
          if (cut !== undefined && !c.flags.has('end')) check(c, [...c.steps, client(cut)]);
          assert.equal(readAgain(c), formatCase(c));
        });
      }
    });
  }
}

function client(text: string): Step {
  return { kind: 'data', direction: FROM_CLIENT, bytes: unescaped(text), timeUs: 9e8 };
}

function check(c: Case, steps: readonly Step[]): void {
  const { emitted, counted } = new WireRun(!c.flags.has('joined')).run(steps).close();
  const label =
    steps === c.steps ? 'whole' : steps.map((step) => (step.kind === 'data' ? escaped(step.bytes) : step.kind));
  assert.deepEqual(emitted, c.expected, String(label));
  assert.deepEqual(counted, [...c.counters].sort());
}

/** What `npm run wire` would print of this case. */
function readAgain({ name, flags, steps }: Case): string {
  const copies = steps.map((step) =>
    step.kind === 'data' ? { ...step, bytes: unescaped(escaped(step.bytes)) } : step,
  );
  return formatCase({ name, flags, steps: copies });
}

test('each protocol that has a page has documents', () => {
  const pages = readdirSync(join(root, 'docs/protocols')).map((file) => file.replace(/\.md$/, ''));
  const wanted = pages.flatMap((page) => (page === 'http' ? ['http1', 'http2'] : [page]));
  assert.deepEqual(
    wanted.filter((folder) => !folders.includes(folder) || golden(folder).length === 0),
    [],
  );
});
