// Builds what is not TypeScript: bpf/*.bpf.c and src/secrets/*/*.bpf.c with clang to dist/bpf/*.bpf.o, and native/*.cc with g++ to
// dist/native/wirespan.node. Writes compile_commands.json, by which editors find out how each file is compiled.
//
// Only what changed is built again: each output has a stamp, a hash of its sources, headers, flags and compiler. libbpf and what it
// needs are linked statically, so that the package runs on a machine without them; OpenSSL's symbols come from the node binary.
// Plain JavaScript without dependencies: it runs before anything else is there.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { targetOf } from './arch/targets.mjs';

const execute = promisify(execFile);
const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');

const BPF_FLAGS = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter', '-Wno-missing-field-initializers']; // biome-ignore format: one list
/**
 * Linux 6.13 and later give a frame of 64 bytes or more, rounded up to 16, in a program of the kprobe family a stack that all who run on one
 * processor share, also those who preempt each other there. No uprobe program may have one (ARCHITECTURE.md, invariant 15).
 */
const FRAME_MAX = 48;
/** Sources whose programs are of other kinds, or not preempted by themselves. */
const ANY_FRAME = new Set(['capture.bpf.c', 'scan.bpf.c']);
const CXX_FLAGS = ['-std=c++20', '-O2', '-g1', '-fPIC', '-fvisibility=hidden', '-D_FORTIFY_SOURCE=2', '-fstack-protector-strong', '-Wall', '-Wextra', '-Wno-cast-function-type', '-Wno-missing-field-initializers', '-DNAPI_VERSION=9', '-DNAPI_CPP_EXCEPTIONS', '-DNODE_ADDON_API_CPP_EXCEPTIONS_ALL', '-DNODE_GYP_MODULE_NAME=wirespan', '-DBUILDING_NODE_EXTENSION', '-D_GNU_SOURCE']; // biome-ignore format: one list

/** `--sanitize`: an addon for test/sanitized.mjs; it needs the libraries of both sanitizers in the process (LD_PRELOAD). */
const SANITIZE = [
  '-fsanitize=address,undefined',
  '-fno-sanitize=vptr',
  '-fno-sanitize-recover=undefined',
  '-fno-omit-frame-pointer',
  '-U_FORTIFY_SOURCE',
];
const sanitizes = process.argv.includes('--sanitize');

/** The headers of the Node that runs this script, never those of another version that a user's npm configuration names. */
function nodeHeaders() {
  const folder = resolve(process.execPath, '../../include/node');
  if (!existsSync(join(folder, 'node_api.h')) || !existsSync(join(folder, 'openssl/evp.h'))) {
    throw new Error(`no Node headers in ${folder}: they belong to the same installation as ${process.execPath}`);
  }
  return folder;
}

function filesIn(folder, pattern) {
  return readdirSync(join(root, folder))
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => join(root, folder, name));
}

function hashOf(files, ...texts) {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(`${text}\0`);
  for (const file of files)
    hash
      .update(`${basename(file)}\0`)
      .update(readFileSync(file))
      .update('\0');
  return hash.digest('hex');
}

/** Path, size and modification time of a tool: as telling as its version and a hundred times as fast. */
function toolIdentity(name) {
  for (const folder of (process.env.PATH ?? '').split(':')) {
    const path = join(folder, name);
    if (existsSync(path)) {
      const { size, mtimeMs } = statSync(path);
      return `${path} ${size} ${mtimeMs}`;
    }
  }
  throw new Error(
    `${name} is not installed (Debian, Ubuntu: apt-get install clang llvm g++ pkg-config libbpf-dev libelf-dev zlib1g-dev)`,
  );
}

function isFresh(output, stamp) {
  return existsSync(output) && existsSync(`${output}.stamp`) && readFileSync(`${output}.stamp`, 'utf8') === stamp;
}

async function run(command, args) {
  try {
    const { stderr } = await execute(command, args, { cwd: root, maxBuffer: 1 << 24 });
    if (stderr !== '') process.stderr.write(stderr);
  } catch (error) {
    throw new Error(`${command} ${args.join(' ')}\n${error.stderr || error.message}`);
  }
}

/** Makes `output` by `make(temporary)`, unless its stamp says that nothing changed. @returns whether it was made */
async function produce(output, stamp, make) {
  if (isFresh(output, stamp)) return false;
  const temporary = `${output}.${process.pid}.tmp`;
  await make(temporary);
  renameSync(temporary, output);
  writeFileSync(`${output}.stamp`, stamp);
  return true;
}

/** Runs the tasks two at a time: enough to use a small machine, without taking a large one. */
async function inParallel(tasks) {
  const results = [];
  const queue = tasks.entries();
  const worker = async () => {
    for (const [index, task] of queue) results[index] = await task();
  };
  await Promise.all([worker(), worker()]);
  return results;
}

/** Folders of the providers of TLS secrets, each of which may hold a program. */
function providerFolders() {
  return readdirSync(join(root, 'src/secrets'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => `src/secrets/${name}`);
}

/** The sources of all BPF objects. */
export function bpfSources() {
  return ['bpf', ...providerFolders()].flatMap((folder) => filesIn(folder, /\.bpf\.c$/));
}

function bpfHeaders() {
  return ['bpf', 'bpf/arch', ...providerFolders()].flatMap((folder) => filesIn(folder, /\.h$/));
}

/**
 * How a BPF source is compiled.
 * @param {string} source @param {import('./arch/targets.mjs').Target} target
 * @param {string} [headers] where the C library's headers of that processor are
 */
export function bpfFlags(source, target, headers = target.headers) {
  const frames = ANY_FRAME.has(basename(source)) ? [] : [`-Wframe-larger-than=${FRAME_MAX}`];
  return [...BPF_FLAGS, `-D${target.bpfDefine}`, '-idirafter', headers, ...frames, '-I', join(root, 'bpf')];
}

function bpfTasks() {
  const clang = toolIdentity('clang');
  const headers = bpfHeaders();
  return bpfSources().map((source) => async () => {
    const output = join(root, 'dist/bpf', basename(source).replace(/\.c$/, '.o'));
    const flags = bpfFlags(source, targetOf());
    const stamp = hashOf([source, ...headers], clang, flags.join(' '));
    const make = async (temporary) => {
      await run('clang', [...flags, '-c', source, '-o', temporary]);
      await run('llvm-strip', ['-g', temporary]); // DWARF; BTF stays
    };
    return (await produce(output, stamp, make)) ? [output] : [];
  });
}

/** What the static linker needs for libbpf: `-lbpf -lelf -lz`, with newer elfutils also `-lzstd`. */
function staticLibraries() {
  const text = execFileSync('pkg-config', ['--static', '--libs', 'libbpf', 'libelf', 'zlib'], { encoding: 'utf8' });
  const ofTheSystem = new Set(['-lc', '-lm', '-lpthread', '-ldl', '-lrt']);
  const all = text.trim().split(/\s+/);
  return {
    folders: [...new Set(all.filter((word) => word.startsWith('-L')))],
    libraries: all.filter((word) => word.startsWith('-l') && !ofTheSystem.has(word)),
  };
}

const napi = join(root, 'node_modules/node-addon-api');

/** How the addon's sources find their headers. */
function addonIncludes() {
  return ['-I', root, '-isystem', nodeHeaders(), '-isystem', napi];
}

async function buildAddon() {
  const compiler = toolIdentity('g++');
  if (!existsSync(join(napi, 'napi.h'))) throw new Error(`no ${napi}: run npm ci first`);
  const cxxFlags = [...CXX_FLAGS, ...targetOf().cxxFlags, ...(sanitizes ? SANITIZE : [])];
  const context = [compiler, process.version, cxxFlags.join(' '), readFileSync(join(napi, 'package.json'), 'utf8')];
  const headers = [...filesIn('native', /\.h$/), ...filesIn('bpf', /\.h$/)];
  const flags = [...cxxFlags, ...addonIncludes()];

  const sources = filesIn('native', /\.cc$/);
  const objects = sources.map((source) => join(root, 'dist/native', `${basename(source)}.o`));
  const compiled = await inParallel(
    sources.map((source, index) => () => {
      const stamp = hashOf([source, ...headers], ...context);
      return produce(objects[index], stamp, (temporary) => run('g++', [...flags, '-c', source, '-o', temporary]));
    }),
  );

  const output = join(root, 'dist/native/wirespan.node');
  const stamp = hashOf([...sources, ...headers], ...context);
  if (!compiled.includes(true) && isFresh(output, stamp)) return [];
  await produce(output, `${stamp}`, async (temporary) => {
    const { folders, libraries } = staticLibraries();
    const link = [
      '-shared',
      ...(sanitizes ? SANITIZE : ['-static-libstdc++', '-static-libgcc']),
      '-Wl,--exclude-libs,ALL',
      '-Wl,-z,relro,-z,now',
      '-Wl,--wrap=stderr',
    ];
    await run('g++', [...link, '-o', temporary, ...objects, ...folders, '-Wl,-Bstatic', ...libraries, '-Wl,-Bdynamic']);
  });
  return [output];
}

/** The compilation database (clang.llvm.org/docs/JSONCompilationDatabase.html) of all sources, for editors. */
function writeCompileCommands() {
  const entry = (compiler, flags) => (file) => ({
    directory: root,
    file,
    arguments: [compiler, ...flags(file), '-c', file],
  });
  const cxx = [...CXX_FLAGS, ...targetOf().cxxFlags, ...addonIncludes()];
  const entries = [
    ...bpfSources().map(entry('clang', (file) => bpfFlags(file, targetOf()))),
    ...filesIn('native', /\.cc$/).map(entry('g++', () => cxx)),
  ];
  const text = `${JSON.stringify(entries, undefined, 1)}\n`;
  const path = join(root, 'compile_commands.json');
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
}

/** Removes objects whose source is gone. */
function removeOrphans() {
  const folder = join(root, 'dist/bpf');
  const wanted = new Set(bpfSources().map((source) => basename(source).replace(/\.c$/, '.o')));
  for (const name of readdirSync(folder)) {
    if (!wanted.has(name.replace(/\.stamp$/, ''))) rmSync(join(folder, name), { force: true });
  }
}

/** Builds everything that is out of date. @returns the paths of what was built */
export async function build() {
  mkdirSync(join(root, 'dist/bpf'), { recursive: true });
  mkdirSync(join(root, 'dist/native'), { recursive: true });
  writeCompileCommands();
  removeOrphans();
  const bpf = await inParallel(bpfTasks());
  return [...bpf.flat(), ...(await buildAddon())];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    for (const path of await build()) process.stderr.write(`built ${path.slice(root.length + 1)}\n`);
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
