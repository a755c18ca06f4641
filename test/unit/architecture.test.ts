import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, posix, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/*
 * The invariants of the layout. Data flows in one direction; a stage imports what comes before it, never what comes after, and the
 * stages that only turn bytes into events do no input or output and read no clock.
 */

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** In the order of the data. */
const stages: readonly string[] = ['capture', 'packet', 'flow', 'tls', 'protocol', 'exchange', 'span', 'export'];

/** Files of a protocol's folder that belong to another stage than `protocol`, by their names: `span.ts` and its parts, `view.ts`. */
const stageOfFile: readonly (readonly [RegExp, string])[] = [
  [/^span(?:-\w+)?\.ts$/, 'span'],
  [/^view\.ts$/, 'export'],
];

/** What every stage may import. */
const foundations: readonly string[] = [
  'arch/',
  'bytes/',
  'link/',
  'sql/',
  'metric/',
  'memory/',
  'config/define.ts',
  'config/limits.ts',
  'config/http.ts',
  'config/label-selector.ts',
  'config/system-error.ts',
  'files/output-file.ts',
  'telemetry/counters.ts',
  'telemetry/clock.ts',
];

/** Files that only describe: types of a stage that an earlier one may name. Imported for their types only. */
const contracts: readonly string[] = ['exchange/exchange.ts', 'exchange/sql.ts', 'protocol/layer.ts'];

/** A protocol's folder: what these files are, whatever the stage of the others. */
const foundationOfProtocol = /^protocol\/[^/]+\/(?:config|limits|reasons)\.ts$/;
/** They put the parts of the protocols together, from all stages. */
const protocolComposition = /^protocol\/(?:(?:registry|modules|module)\.ts|[^/]+\/module\.ts)$/;

/** Beside the flow of data: what each of them may import besides the foundations and itself. */
const sides: Readonly<Record<string, readonly string[]>> = {
  arch: [],
  bytes: [],
  link: [],
  sql: [],
  metric: [],
  memory: [],
  config: ['protocol/registry.ts'],
  telemetry: ['config/'],
  files: [],
  service: ['config/', 'export/', 'telemetry/'],
  secrets: ['capture/', 'files/', 'flow/', 'telemetry/'],
  pcapng: ['capture/', 'flow/', 'packet/', 'telemetry/'],
  workload: ['capture/', 'files/', 'span/resource.ts', 'span/peer.ts', 'telemetry/'],
};

/** What a stage may use of the sides besides types: formats of files, and the door through which secrets come. */
const stageSides: Readonly<Record<string, string>> = { capture: 'pcapng', tls: 'secrets' };

/** May import everything, with the files that lie in src/ itself: they put the parts together. */
const compositionRoots: readonly string[] = ['cli', 'doctor'];

/** Stages that are bytes and time in, events out. */
const sansIo: readonly string[] = [
  'packet',
  'flow',
  'tls',
  'protocol',
  'exchange',
  'span',
  'bytes',
  'link',
  'sql',
  'metric',
  'memory',
];

/** The one door of the TLS stage to the addon's ciphers. */
const nativeDoors = /^(?:capture|tls|secrets)\//;

const MAX_LINES = 500;
/** None: a file that grows beyond the limit is divided. */
const longFiles: readonly string[] = [];

const tracked = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\0')
  .filter((file) => file !== '' && isPresent(file));
const sources = tracked.filter((file) => /^src\/.*\.ts$/.test(file)).map((file) => relative('src', file));

interface Import {
  readonly from: string;
  /** Path below src/, or a package's name. */
  readonly to: string;
  readonly typeOnly: boolean;
  readonly dynamic: boolean;
}

const imports = sources.flatMap(importsOf);

function isPresent(file: string): boolean {
  try {
    return readFileSync(`${root}/${file}`).length >= 0;
  } catch {
    return false;
  }
}

function importsOf(from: string): Import[] {
  const text = code(readFileSync(`${root}/src/${from}`, 'utf8'));
  const found: Import[] = [];
  for (const match of text.matchAll(/^\s*(?:import|export)\s+(type\s+)?(?:([^;'"]*?)\s+from\s+)?['"]([^'"]+)['"]/gm)) {
    const [, type, names, target] = match;
    const named = /^\{(.*)\}$/s
      .exec(names?.trim() ?? '')?.[1]
      ?.split(',')
      .filter((name) => name.trim() !== '');
    const typeOnly = type !== undefined || named?.every((name) => name.trim().startsWith('type ')) === true;
    found.push({ from, to: resolve(from, target!), typeOnly, dynamic: false });
  }
  for (const [, target] of text.matchAll(/\b(?:import|require)\(\s*['"]([^'"]+)['"]\s*\)/g)) {
    found.push({ from, to: resolve(from, target!), typeOnly: false, dynamic: true });
  }
  return found;
}

function resolve(from: string, target: string): string {
  return target.startsWith('.') ? posix.normalize(posix.join(posix.dirname(from), target)) : target;
}

/** Without comments: what they mention is not imported. Good enough for this repository's formatting. */
function code(text: string): string {
  return text.replace(/^\s*\/\*[\s\S]*?\*\//gm, '').replace(/^\s*\/\/.*$/gm, '');
}

function partOf(file: string): string {
  const own = /^protocol\/\w+\/([^/]+)$/.exec(file)?.[1];
  const stage = stageOfFile.find(([name]) => own !== undefined && name.test(own))?.[1];
  if (stage !== undefined) return stage;
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file;
}

function isAmong(file: string, list: readonly string[]): boolean {
  return list.some((entry) => (entry.endsWith('/') ? file.startsWith(entry) : file === entry));
}

function isCompositionRoot(file: string): boolean {
  return !file.includes('/') || compositionRoots.includes(partOf(file)) || protocolComposition.test(file);
}

function isWithin(file: string): boolean {
  return file.endsWith('.ts');
}

/** @returns why this import must not be, or `undefined` */
function objection({ from, to, typeOnly }: Import): string | undefined {
  if (!isWithin(to) || isCompositionRoot(from) || isAmong(to, foundations)) return undefined;
  if (foundationOfProtocol.test(to)) return undefined;
  if (partOf(from) === partOf(to)) {
    return protocolComposition.test(to) ? 'imports the list of protocols' : undefined;
  }
  if (isCompositionRoot(to) && !isAmong(to, sides[partOf(from)] ?? [])) return 'imports the composition root';
  const fromStage = stages.indexOf(partOf(from));
  const toStage = stages.indexOf(partOf(to));
  if (fromStage >= 0) {
    if (toStage >= 0) {
      return toStage < fromStage || (typeOnly && isAmong(to, contracts)) ? undefined : 'imports a later stage';
    }
    return typeOnly || stageSides[partOf(from)] === partOf(to) ? undefined : 'imports a side input';
  }
  const allowed = sides[partOf(from)];
  if (allowed === undefined) return 'is a part that this test does not know: say where it belongs';
  return isAmong(to, allowed) ? undefined : `may import ${allowed.join(', ') || 'nothing but foundations'}`;
}

test('the sources were found', () => {
  assert.ok(sources.length > 10);
  assert.ok(
    imports.some(
      ({ from, to, typeOnly }) => from === 'exchange/exchange.ts' && to === 'flow/connection.ts' && typeOnly,
    ),
  );
  assert.ok(imports.some(({ from, to, dynamic }) => from === 'main.ts' && to === 'agent.ts' && dynamic));
});

test('a stage never imports a later stage', () => {
  const wrong = imports.flatMap((each) => {
    const reason = objection(each);
    return reason === undefined ? [] : [`src/${each.from} -> ${each.to}: ${reason}`];
  });
  assert.deepEqual(wrong, []);
});

test('this test sees what it is there for', () => {
  const value = { typeOnly: false, dynamic: false };
  assert.ok(objection({ from: 'flow/table.ts', to: 'tls/layer.ts', ...value }));
  assert.ok(objection({ from: 'flow/table.ts', to: 'tls/layer.ts', ...value, typeOnly: true }));
  assert.ok(objection({ from: 'flow/table.ts', to: 'protocol/layer.ts', ...value }));
  assert.equal(objection({ from: 'flow/table.ts', to: 'protocol/layer.ts', ...value, typeOnly: true }), undefined);
  assert.equal(objection({ from: 'tls/layer.ts', to: 'flow/connection.ts', ...value }), undefined);
  assert.ok(objection({ from: 'span/builder.ts', to: 'workload/workloads.ts', ...value }));
  assert.ok(objection({ from: 'packet/decode.ts', to: 'agent.ts', ...value }));
  assert.ok(objection({ from: 'protocol/detect.ts', to: 'protocol/registry.ts', ...value }));
  assert.ok(objection({ from: 'span/builder.ts', to: 'protocol/http/module.ts', ...value }));
  assert.equal(objection({ from: 'config/schema.ts', to: 'protocol/registry.ts', ...value }), undefined);
  assert.ok(objection({ from: 'elsewhere/x.ts', to: 'flow/table.ts', ...value }));
});

test('a file of a protocol may belong to a later stage', () => {
  const value = { typeOnly: false, dynamic: false };
  assert.equal(objection({ from: 'protocol/http/span.ts', to: 'span/mapping.ts', ...value }), undefined);
  assert.equal(objection({ from: 'protocol/grpc/span.ts', to: 'protocol/grpc/status.ts', ...value }), undefined);
  assert.equal(objection({ from: 'span/mappings.ts', to: 'protocol/http/span.ts', ...value }), undefined);
  assert.ok(objection({ from: 'protocol/http1/layer.ts', to: 'protocol/http/span.ts', ...value }));
  assert.ok(objection({ from: 'protocol/grpc/span.ts', to: 'export/console.ts', ...value }));
  assert.equal(objection({ from: 'protocol/http/view.ts', to: 'protocol/http/span.ts', ...value }), undefined);
  assert.ok(objection({ from: 'protocol/http1/layer.ts', to: 'protocol/http/view.ts', ...value }));
});

test('what protocols share knows none of them', () => {
  const shared = imports.filter(({ from }) => from.startsWith('protocol/shared/'));
  assert.ok(shared.length > 0);
  assert.deepEqual(
    shared.filter(({ to }) => /^protocol\/\w+\//.test(to) && !to.startsWith('protocol/shared/')),
    [],
  );
});

test('stages without input and output import none and read no clock', () => {
  const forbiddenModule =
    /^(?:node:)?(?:fs|net|tls|http2?|https|dns|dgram|child_process|cluster|worker_threads|timers|readline|stream|os|process|perf_hooks)(?:\/|$)/;
  const forbiddenWord =
    /\b(?:process\.(?!memoryUsage)|setTimeout|setInterval|setImmediate|queueMicrotask|Promise\b|async\s|await\s|Date\.now|new Date\(\)|performance\.now|console\.|fetch\()/;
  const wrong: string[] = [];
  for (const { from, to } of imports) {
    if (!isWithin(to) && sansIo.includes(partOf(from)) && forbiddenModule.test(to))
      wrong.push(`src/${from} imports ${to}`);
  }
  for (const file of sources.filter((each) => sansIo.includes(partOf(each)))) {
    const word = forbiddenWord.exec(withoutStrings(readFileSync(`${root}/src/${file}`, 'utf8')));
    if (word !== null && !nativeDoorOf(file, word[0])) wrong.push(`src/${file} uses ${word[0].trim()}`);
  }
  assert.deepEqual(wrong, []);
});

/** A native binding finds its file through `process.dlopen` or `createRequire`; that is no input of the stage. */
function nativeDoorOf(file: string, word: string): boolean {
  return nativeDoors.test(file) && /native/.test(file) && word.startsWith('process.');
}

/** Neither comments at a line's end nor text count. */
function withoutStrings(text: string): string {
  return code(text)
    .replace(/'(?:[^'\\\n]|\\.)*'/g, "''")
    .replace(/\/\/.*$/gm, '')
    .replace(/\/\*[\s\S]*?\*\//g, '');
}

/** Files whose classes know each other by their types. A list that only gets shorter. */
const knownCircles: readonly string[] = ['flow/deferral.ts', 'flow/flow.ts', 'flow/handshake.ts', 'flow/reset.ts'];

/** @returns files that reach themselves along these imports */
function inCircles(all: readonly Import[]): string[] {
  const targets = new Map<string, Set<string>>();
  for (const { from, to } of all) if (isWithin(to)) targets.set(from, (targets.get(from) ?? new Set()).add(to));
  const reaches = (file: string): boolean => {
    const seen = new Set<string>();
    const open = [...(targets.get(file) ?? [])];
    for (let each = open.pop(); each !== undefined; each = open.pop()) {
      if (each === file) return true;
      if (seen.has(each)) continue;
      seen.add(each);
      open.push(...(targets.get(each) ?? []));
    }
    return false;
  };
  return [...targets.keys()].filter(reaches).sort();
}

test('imports make no circle', () => {
  assert.deepEqual(inCircles(imports.filter(({ typeOnly }) => !typeOnly)), []);
});

test('imports of types make no circle, besides those that are known', () => {
  assert.deepEqual(inCircles(imports.filter(({ dynamic }) => !dynamic)), [...knownCircles].sort());
});

test("only the addon's door, native/addon*, knows Node's API", () => {
  const including = tracked
    .filter((file) => /^native\/.*\.(?:cc|h)$/.test(file) && !/^native\/addon[a-z_]*\.(?:cc|h)$/.test(file))
    .filter((file) =>
      /^\s*#\s*include\s*[<"](?:napi|node|node_api|js_native_api|v8|uv)\.h[>"]/m.test(
        readFileSync(`${root}/${file}`, 'utf8'),
      ),
    );
  assert.deepEqual(including, []);
});

test(`no file is longer than ${MAX_LINES} lines`, () => {
  const long = tracked
    .filter((file) => /\.(?:ts|mjs|cc|h|c)$/.test(file))
    .map((file) => [file, readFileSync(`${root}/${file}`, 'utf8').split('\n').length - 1] as const)
    .filter(([file, lines]) => lines > MAX_LINES && !longFiles.includes(file))
    .map(([file, lines]) => `${file}: ${lines} lines`);
  assert.deepEqual(long, []);
});

test('sources are checked: nothing is switched off', () => {
  const pattern = new RegExp(['@ts-' + 'ignore', '@ts-' + 'nocheck', 'test\\.' + 'only\\(', 'FIX' + 'ME'].join('|'));
  const wrong = tracked
    .filter((file) => /^(?:src|test|native|bpf)\/.*\.(?:ts|mjs|cc|h|c)$/.test(file))
    .flatMap(
      (file) => pattern.exec(readFileSync(`${root}/${file}`, 'utf8'))?.map((found) => `${file}: ${found}`) ?? [],
    );
  assert.deepEqual(wrong, []);
});

test('the project speaks of itself only: no path of a machine it was written on, no host that it was fetched from', () => {
  const pattern = new RegExp(
    [
      '(?<![\\w.-])/' + 'work/',
      '/root/' + '\\.cache',
      '/tmp/' + 'brief',
      '/home/' + '(?!user\\b)\\w+/',
      'registry\\.' + 'npmjs',
      'proxy\\.' + 'golang',
    ].join('|'),
  );
  const wrong = tracked
    .filter(
      (file) =>
        /\.(?:ts|mjs|cc|h|c|md|json|ya?ml|sh|proto)$|Dockerfile|\.ci\/run/.test(file) &&
        !file.endsWith('package-lock.json'),
    )
    .flatMap((file) => {
      const found = pattern.exec(readFileSync(`${root}/${file}`, 'utf8'));
      return found === null ? [] : [`${file}: ${found[0]}`];
    });
  assert.deepEqual(wrong, []);
});
