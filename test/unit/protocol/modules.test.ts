/** A protocol is a module: one folder, one line in the list, one page. What holds of each, and what is left when its line goes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { snakeKey } from '../../../src/config/case.ts';
import { moduleReasons, protocolModules } from '../../../src/protocol/registry.ts';
import { allReasons } from '../../../src/telemetry/reasons.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const LIST = read('src/protocol/modules.ts');
const PAGE_SECTIONS = ['Seen', 'Not seen', 'Attributes', 'Limits', 'Example'];

/** Folder of each module, by the name that the list exports. */
const folders = new Map(
  [...LIST.matchAll(/^export \{ (\w+) \} from '\.\/(\w+)\/module\.ts';$/gm)].map((line) => [line[1]!, line[2]!]),
);

/** Names of protocols that go by more than the name of their module. */
const WORDS: Readonly<Record<string, RegExp>> = {
  grpc: /grpc/i,
  http: /http(?!s?:\/\/)/i,
  mysql: /mysql|mariadb/i,
  postgresql: /postgres/i,
  websocket: /websocket/i,
};

/** Protocols that carry others, which go with them. The agent also exports and serves by them, so that help and reference name them. */
const CARRIED: Readonly<Record<string, readonly string[]>> = { http: ['grpc', 'websocket'] };
const ALSO_EXPORTS: ReadonlySet<string> = new Set(['grpc', 'http']);

/** Files and folders that may name protocols: which, and why. */
const MAY_NAME: readonly (readonly [start: string, names: readonly string[], why: string])[] = [
  ['src/protocol/modules.ts', protocolModules.map(({ name }) => name), 'the list'],
  ['src/span/attributes.ts', ['http', 'websocket'], 'the names of all attributes'],
  ['src/protocol/http1/', ['http'], 'the first version of HTTP'],
  ['src/protocol/http2/', ['http'], 'the second version of HTTP'],
  ['src/protocol/http2/protocol.ts', ['grpc'], 'the field that says how most of its streams went'],
  ['src/protocol/grpc/', ['http'], 'runs on HTTP'],
  ['src/protocol/websocket/', ['http'], 'runs on HTTP'],
  ['src/protocol/module.ts', ['http'], 'what other protocols add to HTTP'],
  ['src/protocol/registry.ts', ['http'], 'what other protocols add to HTTP'],
  ['src/flow/role.ts', ['http'], 'bytes that only a server sends first'],
  ['src/span/url.ts', ['http'], 'the schemes of URLs'],
  ['src/export/', ['grpc', 'http'], 'OTLP'],
  ['src/config/otlp', ['grpc', 'http'], 'OTLP'],
  ['src/config/', ['grpc', 'http'], 'descriptions of keys'],
  ['src/cli/', ['grpc', 'http'], 'words for people'],
  ['src/service/', ['http'], 'the HTTP server of the agent'],
  ['src/workload/', ['http'], 'the API server speaks it; options of Node'],
  ['src/secrets/libraries.ts', ['grpc'], 'the name of a library'],
];

function wordOf(name: string): RegExp {
  return WORDS[name] ?? new RegExp(`(?:(?<![A-Za-z])${name}|${name[0]!.toUpperCase()}${name.slice(1)})(?![a-z])`);
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
}

test('the list has one line for each protocol, in the order of their names', () => {
  const lines = LIST.split('\n').filter((line) => line.startsWith('export'));
  assert.equal(lines.length, folders.size);
  assert.deepEqual(
    protocolModules.map(({ name }) => name),
    [...folders.keys()].sort(),
  );
});

for (const [file, folder] of [
  ['README.md', 'docs/protocols/'],
  ['docs/README.md', 'protocols/'],
] as const) {
  test(`${file} lists the pages as the modules say; WIRESPAN_UPDATE=1 prints them`, () => {
    const rows = protocolModules.map(({ title, page, reads }) => `| [${title}](${folder}${page}) | ${reads} |\n`);
    const listed = new RegExp(`(?:^\\| \\[[^\\]]+\\]\\(${folder}[\\w-]+\\.md\\) \\|.*\n)+`, 'm');
    const text = read(file);
    assert.match(text, listed);
    const printed = text.replace(listed, () => rows.join(''));
    if (process.env.WIRESPAN_UPDATE === '1') writeFileSync(join(root, file), printed);
    assert.equal(read(file), printed);
  });
}

test('the documents name the last protocol on its page and where they are printed', () => {
  const printed = /^(?:README\.md|docs\/README\.md|docs\/reference\/|charts\/wirespan\/values\.schema\.json$)/;
  const files = execFileSync('git', ['grep', '-li', 'redis', '--', 'docs', 'charts', 'README.md', 'package.json'], {
    cwd: root,
    encoding: 'utf8',
  });
  const naming = files.trim().split('\n');
  assert.deepEqual(
    naming.filter((file) => !printed.test(file)),
    ['docs/protocols/redis.md'],
  );
});

for (const module of protocolModules) {
  describe(module.name, () => {
    test('no field is missing', () => {
      assert.match(module.name, /^[a-z][a-z0-9]*$/);
      for (const text of [module.title, module.exchanges, module.reads]) assert.ok(text.length > 0);
      for (const port of module.ports) assert.ok(Number.isInteger(port) && port > 0 && port < 65_536);
      for (const field of ['create', 'cost', 'spans'] as const) assert.equal(typeof module[field], 'function', field);
      assert.equal(typeof module.view.view, 'function');
      for (const field of ['systems', 'reasons'] as const) assert.ok(Array.isArray(module[field]), field);
    });

    test('its page has the sections of the template', () => {
      const page = read(`docs/protocols/${module.page}`);
      const sections = [...page.matchAll(/^## (.*)$/gm)].map((section) => section[1]!);
      assert.deepEqual(sections, PAGE_SECTIONS);
      assert.match(page, new RegExp(module.title));
    });

    test('its limits, sections and reasons are in the reference', () => {
      const configuration = read('docs/reference/configuration.md');
      const reasons = read('docs/reference/reasons.md');
      const tables = new Map(allReasons(moduleReasons).map((table) => [table.key, table.reasons]));
      for (const [name, { unit, meaning, counted }] of Object.entries(module.limits)) {
        assert.equal(/Bytes$/.test(name) ? 'bytes' : /Us$/.test(name) ? 'us' : 'count', unit, name);
        assert.match(meaning, /\.$/, name);
        assert.ok(configuration.includes(`\`limits.${snakeKey(name)}\``), name);
        if (counted === undefined) continue;
        const [key, reason] = counted.split(': ') as [string, string];
        assert.ok(tables.get(key)?.[reason], `${name} is counted as ${counted}`);
      }
      for (const [name, { description, shape }] of Object.entries(module.config)) {
        assert.ok(configuration.includes(`**\`${name}\`**: ${description}`), name);
        for (const key of Object.keys(shape)) assert.ok(configuration.includes(`\`${name}.${key}\``), key);
      }
      for (const table of module.reasons) {
        for (const word of Object.keys(table.reasons)) assert.ok(reasons.includes(`\`${word}\``), word);
      }
      assert.ok(read('docs/reference/exchanges.md').includes(`### ${module.name}\n`));
    });

    const word = wordOf(module.name);
    test('no file outside of its folder names it', () => {
      const own = `src/protocol/${folders.get(module.name)}/`;
      const naming = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
        .map((file) => `src/${file}`)
        .filter((file) => file.endsWith('.ts') && !file.startsWith(own) && !file.startsWith('src/sql/'))
        .filter((file) => !MAY_NAME.some(([start, names]) => file.startsWith(start) && names.includes(module.name)))
        .filter((file) => word.test(withoutComments(read(file))));
      assert.deepEqual(naming, []);
    });

    const gone = [module.name, ...(CARRIED[module.name] ?? [])];
    test('without its line nothing of it is left', () => {
      const all = printedWithout([]);
      const rest = printedWithout(gone);
      assert.ok(all.modules.includes(module.name));
      assert.deepEqual(
        rest.modules,
        all.modules.filter((name) => !gone.includes(name)),
      );
      const others = protocolModules.filter(({ name }) => !gone.includes(name));
      const only = (keys: readonly string[], shared: readonly string[]) => keys.filter((key) => !shared.includes(key));
      const limits = only(
        Object.keys(module.limits),
        others.flatMap((other) => Object.keys(other.limits)),
      );
      const sections = only(
        Object.keys(module.config),
        others.flatMap((other) => Object.keys(other.config)),
      );
      const traces = [
        `### ${module.name}\n`,
        ...limits.map((name) => `limits.${snakeKey(name)}\``),
        ...sections.map((name) => `**\`${name}\`**`),
      ];
      for (const trace of traces) {
        assert.ok(all.text.includes(trace), trace);
        assert.ok(!rest.text.includes(trace), trace);
      }
      if (!ALSO_EXPORTS.has(module.name)) {
        assert.match(all.text, word);
        const naming = rest.text.split('\n').filter((line) => word.test(line));
        assert.deepEqual(
          naming.map((line) => (word.exec(line)?.input ?? '').slice(0, 200)),
          [],
        );
      }
    });
  });
}

test('what may name a protocol names it', () => {
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).map((file) => `src/${file}`);
  for (const [start, names] of MAY_NAME) {
    const own = files.filter((file) => file.endsWith('.ts') && file.startsWith(start));
    for (const name of names)
      assert.ok(
        own.some((file) => wordOf(name).test(withoutComments(read(file)))),
        `${start}: ${name}`,
      );
  }
});

interface Printed {
  readonly modules: readonly string[];
  /** Schema, reference, reasons, keys of views, help, hints, names in detection. */
  readonly text: string;
}

/** What a process says of its protocols when the lines of some are not in the list. */
function printedWithout(names: readonly string[]): Printed {
  const script = `
    import { registerHooks } from 'node:module';
    registerHooks({
      load(url, context, next) {
        const loaded = next(url, context);
        if (!url.endsWith('/src/protocol/modules.ts')) return loaded;
        const isGone = (line) => ${JSON.stringify(names)}.some((name) => line.startsWith(\`export { \${name} }\`));
        const lines = String(loaded.source).split('\\n').filter((line) => !isGone(line));
        return { ...loaded, source: lines.join('\\n') };
      },
    });
    const from = (file) => import(new URL(file, '${new URL('../../../src/', import.meta.url).href}'));
    const registry = await from('protocol/registry.ts');
    const { configReference } = await from('config/reference.ts');
    const { configTree } = await from('config/describe.ts');
    const { loadConfig } = await from('config/load.ts');
    const { allReasons, reasonsPage } = await from('telemetry/reasons.ts');
    const { newCounters } = await from('telemetry/counters.ts');
    const { viewReference } = await from('export/view-reference.ts');
    const { helpText } = await from('cli/help.ts');
    const { nothingSeenYet } = await from('cli/waiting.ts');
    const counters = newCounters();
    const config = loadConfig(undefined);
    const protocols = registry.createProtocols({ config, limits: config.limits, counters });
    const text = [
      configReference(),
      JSON.stringify(configTree),
      reasonsPage(allReasons(registry.moduleReasons)),
      viewReference(registry.protocolViewers),
      helpText(),
      ...nothingSeenYet('all', counters),
      JSON.stringify(protocols),
    ].join('\\n');
    console.log(JSON.stringify({ modules: registry.protocolModules.map((module) => module.name), text }));
  `;
  const output = execFileSync(process.execPath, ['--input-type=module', '--no-warnings', '--eval', script], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return JSON.parse(output) as Printed;
}
