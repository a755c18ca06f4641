/** System packages: what is looked for, and which Debian or Ubuntu package brings it. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { findCommand, runQuietly, SetupError, say } from './common.mjs';

/** @typedef {{package: string, command?: string, file?: string, oneOf?: () => string[], optional?: boolean}} Need oneOf: any of
 * these files; optional: it is installed beside the others, and nothing fails without it */

/** To build the addon and the BPF objects. @type {Need[]} */
export const BUILD = [
  { package: 'g++', command: 'g++' },
  { package: 'clang', command: 'clang' },
  { package: 'llvm', command: 'llvm-strip' },
  { package: 'pkg-config', command: 'pkg-config' },
  { package: 'libbpf-dev', file: '/usr/include/bpf/libbpf.h' },
  { package: 'libelf-dev', file: '/usr/include/libelf.h' },
  { package: 'zlib1g-dev', file: '/usr/include/zlib.h' },
  // Checks the form of the sources.
  { package: 'clang-format', command: 'clang-format', optional: true },
];

/** For the tests that need no privilege. @type {Need[]} */
export const TEST = [
  { package: 'openssl', command: 'openssl' },
  { package: 'tshark', command: 'tshark' },
];

/** For the live tests and the benchmarks. @type {Need[]} */
export const LIVE = [
  { package: 'nginx', command: 'nginx' },
  { package: 'wrk', command: 'wrk' },
  { package: 'nghttp2-client', command: 'h2load' },
  { package: 'curl', command: 'curl' },
  { package: 'python3', command: 'python3' },
  { package: 'iproute2', command: 'ip' },
  { package: 'iptables', command: 'iptables' },
  { package: 'bpftool', command: 'bpftool' },
  { package: 'binutils', command: 'readelf' },
  { package: 'gnutls-bin', command: 'gnutls-serv' },
  { package: 'util-linux', command: 'setpriv' },
  { package: 'prometheus', command: 'promtool' },
  { package: 'runc', command: 'runc' },
  { package: 'postgresql', oneOf: () => versioned('/usr/lib/postgresql', 'bin/postgres') },
  { package: 'postgresql-client', command: 'psql' },
  { package: 'mariadb-server', command: 'mariadbd' },
  { package: 'mariadb-client', command: 'mariadb' },
  { package: 'redis-server', command: 'redis-server' },
  { package: 'redis-tools', command: 'redis-benchmark' },
  // For the drivers in Python, Java and Go; Go itself is asked for where it is used, as Debian's may be too old.
  { package: 'python3-pip', command: 'pip3' },
  { package: 'default-jdk-headless', command: 'javac' },
  { package: 'maven', command: 'mvn' },
  // Brings promtool.
  { package: 'prometheus', command: 'prometheus' },
];

/** For the tests on other kernels. @type {Need[]} */
export const KERNELS = [
  { package: 'qemu-system-x86', command: 'qemu-system-x86_64' },
  { package: 'kmod', command: 'depmod' },
  { package: 'xz-utils', command: 'xz' },
];

/** A file below each folder of a folder, such as one per installed version. */
function versioned(folder, file) {
  try {
    return readdirSync(folder).map((version) => join(folder, version, file));
  } catch {
    return [];
  }
}

/** @param {Need} need */
function isThere(need) {
  if (need.command) return findCommand(need.command) !== undefined;
  return (need.oneOf?.() ?? [need.file ?? '']).some((file) => existsSync(file));
}

/** Whether this user can install packages here. */
export function canInstall() {
  return process.getuid?.() === 0 && findCommand('apt-get') !== undefined;
}

/** @param {Need[]} needs @returns {string[]} the packages that are not there and without which it does not go */
export function missing(needs) {
  return needs.filter((need) => !need.optional && !isThere(need)).map((need) => need.package);
}

/**
 * Installs what is missing with apt-get, as root.
 * @param {Need[]} needs @param {string} purpose ends the sentence "... is needed to"
 * @throws {SetupError} that names the packages, when they cannot be installed
 */
export function ensurePackages(needs, purpose) {
  const required = missing(needs);
  if (required.length === 0) return;
  const optional = needs.filter((need) => need.optional && !isThere(need)).map((need) => need.package);
  const packages = [...required, ...optional];
  const list = packages.join(' ');
  const apt = findCommand('apt-get');
  if (!apt)
    throw new SetupError(`needed to ${purpose}: ${list} (Debian's names; apt-get was not found, install them by hand)`);
  if (process.getuid?.() !== 0) throw new SetupError(`needed to ${purpose}; run as root: apt-get install ${list}`);
  say(`installing with apt-get, to ${purpose}: ${list}`);
  // RUNLEVEL=1 keeps invoke-rc.d from starting a freshly installed server.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const install = () => runQuietly(apt, ['install', '-y', '-qq', '--no-install-recommends', ...packages], { env });
  let result = install();
  if (!result.ok) {
    // The second try is for package lists that are empty or old.
    const update = runQuietly(apt, ['update', '-qq'], { env });
    result = update.ok ? install() : update;
  }
  if (!result.ok) {
    process.stderr.write(result.output);
    throw new SetupError(`apt-get could not install: ${list}`);
  }
  const left = missing(needs);
  if (left.length > 0) throw new SetupError(`still missing after apt-get install: ${left.join(' ')}`);
}
