/** The package that `npm pack` makes runs with Node alone: it is installed and run on a PATH that holds nothing else. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, realpath, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { startNodeServer } from '../support/http/servers.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { Cleanup } from '../support/programs/cleanup.ts';
import { root } from '../support/programs/paths.ts';
import { run } from '../support/programs/process.ts';

/** What the C library's own package holds; Node itself needs them. */
const SYSTEM_LIBRARIES = [
  'libc.so.6',
  'libm.so.6',
  'libpthread.so.0',
  'libdl.so.2',
  'librt.so.1',
  'ld-linux-x86-64.so.2',
];

/** npm's entry file: beside the npm that is in PATH. */
async function npmFile(): Promise<string> {
  if (process.env.npm_execpath?.endsWith('npm-cli.js')) return process.env.npm_execpath;
  const { stdout } = await run('sh', ['-c', 'command -v npm']);
  return realpath(stdout.trim());
}

suite('the package', () => {
  const cleanup = new Cleanup();
  /** The folder into which the package was installed, and the folder that is the whole PATH. */
  let home = '';
  let bin = '';
  const wirespanFile = () => join(home, 'node_modules', '.bin', 'wirespan');
  const alone = () => ({ PATH: bin, LD_LIBRARY_PATH: undefined, NODE_PATH: undefined, CPATH: undefined });

  before(async () => {
    const folder = await cleanup.temporaryFolder();
    home = join(folder, 'home');
    bin = join(folder, 'bin');
    await mkdir(home);
    await mkdir(bin);
    await symlink(process.execPath, join(bin, 'node'));
    await writeFile(join(home, 'package.json'), '{"private":true}\n');
    const npm = await npmFile();
    const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
    await run(process.execPath, [npm, 'pack', `--pack-destination=${folder}`, ...quiet], {
      cwd: root,
      timeoutMs: 300_000,
    });
    const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
    assert.ok(tarball, 'npm pack made no tarball');
    const install = [npm, 'install', '--prefer-offline', '--ignore-scripts', ...quiet, join(folder, tarball)];
    await run(join(bin, 'node'), install, { cwd: home, env: alone(), timeoutMs: 300_000 });
  });
  after(() => cleanup.run());

  test('holds what runs, and nothing that was only needed to build it', () => {
    const files = readdirSync(join(home, 'node_modules', 'wirespan'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(join(home, 'node_modules', 'wirespan').length + 1));
    assert.ok(files.includes('dist/native/wirespan.node'));
    assert.ok(files.filter((name) => /^dist\/bpf\/.*\.o$/.test(name)).length > 0, 'no BPF object');
    const unwanted = files.filter((name) =>
      /\.(stamp|tmp|tsbuildinfo)$|^dist\/native\/.*\.o$|\.built|^(src|test|native|bpf)\//.test(name),
    );
    assert.deepEqual(unwanted, []);
    const missing = [
      'LICENSE',
      'NOTICE',
      'licenses/LGPL-3.0.txt',
      'README.md',
      'ARCHITECTURE.md',
      'package.json',
    ].filter((name) => !files.includes(name));
    assert.deepEqual(missing, []);
  });

  test('its addon needs the C library only', async (t) => {
    const addon = join(home, 'node_modules', 'wirespan', 'dist', 'native', 'wirespan.node');
    const dynamic = await run('readelf', ['-d', addon]);
    const needed = [...dynamic.stdout.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map((match) => match[1]!);
    assert.ok(needed.includes('libc.so.6'));
    assert.deepEqual(
      needed.filter((name) => !SYSTEM_LIBRARIES.includes(name)),
      [],
    );
    assert.doesNotMatch(dynamic.stdout, /\((RPATH|RUNPATH)\)/);
    // Told, not judged: it is that of the machine that built it.
    const symbols = await run('readelf', ['-V', addon]);
    const newest = Math.max(...[...symbols.stdout.matchAll(/\bGLIBC_2\.(\d+)/g)].map((match) => Number(match[1])));
    t.diagnostic(`the addon needs glibc 2.${newest} or newer`);
  });

  test('says its version, and what it can see', async () => {
    const version = await run(wirespanFile(), ['--version'], { env: alone() });
    const { version: expected } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    assert.match(version.stdout, new RegExp(`\\b${expected.replaceAll('.', '\\.')}\\b`));
    const doctor = await run(wirespanFile(), ['doctor', '--json'], { env: alone(), timeoutMs: 60_000 });
    assert.equal(typeof JSON.parse(doctor.stdout), 'object');
  });

  test('traces a request over TLS', async () => {
    const server = await startNodeServer(cleanup);
    const agent = await startAgent(cleanup, { command: [wirespanFile()], env: alone() });
    await run('curl', ['-sk', '-o', '/dev/null', `${server.url}/bytes/10`]);
    const spans = await agent.waitForSpans(2, (span) => span.attributes['server.port'] === server.port);
    assert.deepEqual(spans.map((span) => `${span.kind} ${span.resource['process.executable.name']}`).sort(), [
      'CLIENT curl',
      'SERVER node',
    ]);
    await agent.stop();
    await assertKernelClean();
  });
});
