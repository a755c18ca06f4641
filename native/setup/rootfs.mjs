/**
 * `node native/setup/rootfs.mjs ROOTFS`: builds the package and puts together the root file system of the image, which holds what runs and
 * nothing else: Node's binary, the libraries of this system that it and the addon are linked against, and the package with what it
 * depends on. No shell, no compiler, no package manager. Plain JavaScript without dependencies.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { npm, root, run, SetupError, say } from './common.mjs';
import { prepare } from './prepare.mjs';

/** Where Node is in the image. */
const NODE = '/usr/local/bin/node';

if (process.argv[2] === undefined) {
  say('usage: node native/setup/rootfs.mjs ROOTFS');
  process.exit(2);
}
const rootfs = resolve(process.argv[2]);
const app = join(rootfs, 'app');

/** The path in the image of a file that is somewhere in this system. */
function place(path) {
  const target = join(rootfs, path);
  mkdirSync(dirname(target), { recursive: true });
  return target;
}

/** Text of the image's own, readable by all. */
function write(path, lines) {
  writeFileSync(place(path), `${lines.join('\n')}\n`, { mode: 0o644 });
}

/** The shared objects that a program needs, the loader among them, by the paths at which it finds them. */
function libraries(program) {
  const text = execFileSync('ldd', [program], { encoding: 'utf8' });
  const missing = /(\S+) => not found/.exec(text);
  if (missing) throw new Error(`${program} needs ${missing[1]}, which is not here`);
  return [...text.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]);
}

/** The Debian package that a file of this system belongs to, or undefined. */
function packageOf(path) {
  // Since /lib is a link to /usr/lib, the list may name either.
  for (const name of [path, realpathSync(path), realpathSync(path).replace(/^\/usr/, '')]) {
    try {
      const [owner] = execFileSync('dpkg-query', ['--search', name], { encoding: 'utf8', stdio: 'pipe' }).split(': ');
      return owner.split(':')[0];
    } catch {
      // Not under this name.
    }
  }
  return undefined;
}

/** Installs the package as npm packs it, with the packages of the lock file that it needs to run. */
function installPackage() {
  const work = mkdtempSync(join(tmpdir(), 'wirespan-image-'));
  try {
    if (!npm(['pack', `--pack-destination=${work}`])) throw new SetupError('npm pack failed; its messages are above');
    const [tarball] = readdirSync(work);
    mkdirSync(app);
    if (!run('tar', ['-xzf', join(work, tarball), '--strip-components=1', '--no-same-owner', '-C', app]))
      throw new SetupError(`could not unpack ${tarball}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const lock = join(app, 'package-lock.json');
  copyFileSync(join(root, 'package-lock.json'), lock);
  if (!npm(['ci', '--omit=dev', '--prefer-offline'], { cwd: app }))
    throw new SetupError('npm ci failed; its messages are above');
  rmSync(lock);
  // Half of the packages' bytes are for compilers and debuggers.
  for (const name of readdirSync(app, { recursive: true })) {
    if (/\.d\.[cm]?ts$|\.[cm]?[jt]s\.map$/.test(name)) rmSync(join(app, name));
  }
}

const node = prepare();
rmSync(rootfs, { recursive: true, force: true });
mkdirSync(rootfs, { recursive: true, mode: 0o755 });
for (const folder of ['bin', 'lib', 'lib64']) {
  mkdirSync(join(rootfs, 'usr', folder), { recursive: true });
  symlinkSync(`usr/${folder}`, join(rootfs, folder));
}
mkdirSync(join(rootfs, 'tmp'));
chmodSync(join(rootfs, 'tmp'), 0o1777);

installPackage();
// The first line of its program says where Node is: there is no env(1) to look for it.
const main = join(app, 'dist/main.js');
const text = readFileSync(main, 'utf8');
const shebang = /^#!\S+( -S)? node\b/;
if (!shebang.test(text)) throw new Error(`${main} does not begin as expected`);
writeFileSync(main, text.replace(shebang, `#!${NODE}`));
chmodSync(main, 0o755);
symlinkSync(relative(dirname(NODE), '/app/dist/main.js'), place('/usr/local/bin/wirespan'));

copyFileSync(node, place(NODE));
chmodSync(join(rootfs, NODE), 0o755);
const addons = readdirSync(app, { recursive: true })
  .filter((name) => name.endsWith('.node'))
  .map((name) => join(app, name));
const needed = new Set([node, ...addons].flatMap(libraries));
const packages = new Set();
for (const path of needed) {
  const inImage = path.startsWith('/usr/') ? path : join('/usr', path);
  copyFileSync(realpathSync(path), place(inImage));
  const owner = packageOf(path);
  if (owner) packages.add(owner);
}

// What scanners read, and what the licences of the libraries ask for.
for (const name of packages) {
  writeFileSync(place(`/var/lib/dpkg/status.d/${name}`), execFileSync('dpkg-query', ['--status', name]));
  const copyright = `/usr/share/doc/${name}/copyright`;
  if (existsSync(copyright)) copyFileSync(realpathSync(copyright), place(copyright));
}
const nodeLicense = join(dirname(node), '../LICENSE');
if (existsSync(nodeLicense)) copyFileSync(nodeLicense, place('/usr/share/doc/node/LICENSE'));
if (existsSync('/etc/os-release')) copyFileSync(realpathSync('/etc/os-release'), place('/etc/os-release'));

write('/etc/passwd', ['root:x:0:0:root:/:/sbin/nologin', 'nobody:x:65534:65534:nobody:/:/sbin/nologin']);
write('/etc/group', ['root:x:0:', 'nogroup:x:65534:']);
write('/etc/nsswitch.conf', ['hosts: files dns']);
