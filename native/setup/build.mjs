/** Installs the npm dependencies and builds `dist/`: each step only when its inputs differ from what was built last. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fingerprint, npm, readJson, root, run, SetupError, say } from './common.mjs';
import { BUILD, canInstall, ensurePackages, missing } from './packages.mjs';

const dist = join(root, 'dist');
/** Fingerprints of the inputs of what lies in `dist/`. */
const stampFile = join(dist, '.built.json');

/** The environment in which the given Node is the one that `#!/usr/bin/env node` finds. */
export function environmentOf(node) {
  return { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ''}` };
}

/** Whether node_modules holds every package of the lock file, in its version. npm keeps its own list of what it installed. */
function dependenciesAreCurrent(lock) {
  const installed = readJson(join(root, 'node_modules', '.package-lock.json'))?.packages;
  if (!installed) return false;
  return Object.entries(lock.packages).every(
    ([path, wanted]) =>
      path === '' || (installed[path] ? installed[path].version === wanted.version : wanted.optional === true),
  );
}

function ensureDependencies() {
  const lock = readJson(join(root, 'package-lock.json'));
  if (!lock?.packages) throw new SetupError('package-lock.json is missing or broken');
  if (!dependenciesAreCurrent(lock)) {
    say('installing the npm packages of package-lock.json');
    if (!npm(['ci'])) throw new SetupError('npm ci failed; its messages are above');
  }
  return (name) => lock.packages[`node_modules/${name}`]?.version ?? '';
}

/** Removes JavaScript from dist/ whose source is gone: a test or a package must not load it. */
function removeOrphans() {
  for (const entry of readdirSync(dist, { withFileTypes: true, recursive: true })) {
    const match = /^(.*)\.js(\.map)?$/.exec(entry.name);
    if (!match || !entry.isFile()) continue;
    const folder = (entry.parentPath ?? entry.path).slice(dist.length);
    if (!existsSync(join(root, 'src', folder, `${match[1]}.ts`)))
      rmSync(join(dist, folder, entry.name), { force: true });
  }
}

/**
 * Brings node_modules and dist/ up to date.
 * @param {string} node the Node that builds and runs
 * @param {{addonIsOptional?: boolean}} [options] see prepare()
 */
export function ensureBuilt(node, { addonIsOptional = false } = {}) {
  const version = ensureDependencies();
  const env = environmentOf(node);
  const stamps = readJson(stampFile) ?? {};
  const save = () => {
    mkdirSync(dist, { recursive: true });
    writeFileSync(`${stampFile}.${process.pid}`, JSON.stringify(stamps));
    renameSync(`${stampFile}.${process.pid}`, stampFile);
  };

  const native = fingerprint(
    ['native', 'bpf', 'src/secrets'],
    (path) => /\.(c|cc|h|mjs)$/.test(path) && !path.startsWith('native/setup/'),
    [version('node-addon-api')],
  );
  if (stamps.native !== native || !existsSync(join(dist, 'native', 'wirespan.node'))) {
    if (addonIsOptional && !canInstall() && missing(BUILD).length > 0) {
      say(`the addon is not built, and tests that use it will fail: ${missing(BUILD).join(' ')} are missing`);
    } else {
      ensurePackages(BUILD, 'build the addon and the BPF programs');
      say('building the addon and the BPF programs');
      if (!run(node, ['native/build.mjs'], { env }))
        throw new SetupError('building the addon or the BPF programs failed');
      stamps.native = native;
      save();
    }
  }

  const tsconfig = readFileSync(join(root, 'tsconfig.json'), 'utf8');
  const typescript = fingerprint(['src'], (path) => path.endsWith('.ts'), [version('typescript'), tsconfig]);
  if (stamps.typescript !== typescript || !existsSync(join(dist, 'main.js'))) {
    say('compiling the TypeScript sources');
    if (!run(node, ['node_modules/typescript/bin/tsc', '-p', '.'], { env }))
      throw new SetupError('tsc reported errors');
    removeOrphans();
    if (!existsSync(join(dist, 'main.js'))) throw new SetupError('tsc made no dist/main.js');
    chmodSync(join(dist, 'main.js'), 0o755);
    stamps.typescript = typescript;
    save();
  }
}
