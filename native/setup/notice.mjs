/**
 * `npm run notice`: writes NOTICE, which says what the packages carry of others, and under which licence. The packages of npm are those of
 * package-lock.json; everything else stands in the tables below. Plain JavaScript without dependencies.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './common.mjs';
import { TESTED } from './node.mjs';

/** @typedef {{name: string, licence: string, what: string, text?: string}} Part text: the file below licenses/ */

/** Linked into dist/native/wirespan.node, by the words of the linker that ask for them. @type {Record<string, Part>} */
export const LINKED = {
  '-lbpf': { name: 'libbpf', licence: 'LGPL-2.1-only OR BSD-2-Clause', what: 'unchanged', text: 'libbpf.txt' },
  '-lelf': {
    name: 'libelf (elfutils)',
    licence: 'LGPL-3.0-or-later OR GPL-2.0-or-later',
    what: 'without elf_error.o, which native/static_libs.cc replaces',
    text: 'LGPL-3.0.txt',
  },
  '-lz': { name: 'zlib', licence: 'Zlib', what: 'unchanged', text: 'zlib.txt' },
  '-lzstd': {
    name: 'zstd',
    licence: 'BSD-3-Clause',
    what: "where the build machine's libelf needs it",
    text: 'zstd.txt',
  },
  '-static-libstdc++': {
    name: 'libstdc++',
    licence: 'GPL-3.0-or-later WITH GCC-exception-3.1',
    what: "the compiler's runtime",
  },
  '-static-libgcc': {
    name: 'libgcc',
    licence: 'GPL-3.0-or-later WITH GCC-exception-3.1',
    what: "the compiler's runtime",
  },
};

/** Whose code in headers is compiled into the addon or the BPF objects, by how `#include` names them. @type {Record<string, Part>} */
export const HEADERS = {
  'napi.h': { name: 'node-addon-api', licence: 'MIT', what: 'into the addon', text: 'node-addon-api.txt' },
  'node_api.h': { name: 'Node.js', licence: 'MIT', what: 'into the addon: declarations only' },
  'openssl/': {
    name: 'OpenSSL',
    licence: 'Apache-2.0',
    what: 'into the addon: declarations only; the library is that within Node.js',
  },
  'bpf/': {
    name: 'libbpf',
    licence: 'LGPL-2.1-only OR BSD-2-Clause',
    what: 'into both: its inline functions and macros',
    text: 'libbpf.txt',
  },
  'linux/': {
    name: "Linux's user space API",
    licence: 'GPL-2.0-only WITH Linux-syscall-note',
    what: 'into both: declarations only',
  },
};

/** Debian's packages that the image holds libraries of. @type {Record<string, Part>} */
export const SYSTEM = {
  libc6: { name: 'the GNU C library', licence: 'LGPL-2.1-or-later', what: 'libc, libm, libdl, libpthread, ld-linux' },
  'libgcc-s1': { name: 'libgcc', licence: 'GPL-3.0-or-later WITH GCC-exception-3.1', what: 'libgcc_s' },
  'libstdc++6': { name: 'libstdc++', licence: 'GPL-3.0-or-later WITH GCC-exception-3.1', what: 'libstdc++' },
};

/** What Node's binary holds of others, as its own LICENSE file names it; tools and tests of its sources are left out. */
const WITHIN_NODE = `ada, Acorn, amaro, brotli, c-ares, caja, HdrHistogram, ICU, inspector_protocol, ittapi, libuv, LIEF, llhttp, merve, minimatch,
nghttp2, nghttp3, ngtcp2, node-fs-extra, node-heapdump, on-exit-leak-free, OpenSSL (Apache-2.0), Punycode.js, rimraf, simdjson, simdutf,
SipHash, sonic-boom, swc, undici, uvwasi, V8 (BSD-3-Clause), zlib, zstd`;

/** @returns {Map<string, string>} `NAME VERSION` of each package that npm installs with this one, and its licence */
export function npmPackages() {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const found = new Map();
  for (const [path, { name: alias, version, license, dev }] of Object.entries(lock.packages)) {
    if (path === '' || dev === true) continue;
    const name = alias ?? path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    found.set(`${name} ${version}`, license ?? 'not said');
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** @param {Part} part */
function line({ name, licence, what, text }) {
  return `  ${name}: ${licence}; ${what}${text === undefined ? '' : `; licenses/${text}`}`;
}

/** @returns {string} what NOTICE has to be */
export function noticeText() {
  const unique = (/** @type {Part[]} */ parts) => [...new Set(parts.map(line))];
  return `${[
    'Wirespan',
    'Copyright the Wirespan authors',
    '',
    'Wirespan is licensed under Apache-2.0; bpf/, the C sources in src/ and what is made of them under GPL-2.0-only OR BSD-2-Clause: see LICENSE. What the packages carry',
    'of others follows. This file is written by `npm run notice`.',
    '',
    '1. The npm package',
    '',
    'dist/native/wirespan.node holds these libraries, linked statically. It can be linked again with other versions of them: native/build.mjs of',
    'the sources does. The texts of their licences are below licenses/; that of LGPL-3.0 adds to licenses/GPL-3.0.txt.',
    '',
    ...unique(Object.values(LINKED)),
    '',
    'Headers of others are compiled into dist/native/wirespan.node (the addon) and dist/bpf/*.o (the BPF objects). The types of the kernel that',
    'the BPF objects read are declared by bpf/kernel_types.h, which is our own: no vmlinux.h is used.',
    '',
    ...unique(Object.values(HEADERS)),
    '',
    '2. What npm installs with it',
    '',
    'These packages are not within the npm package; npm fetches them, and the image holds them. The texts of their licences stand beside them in',
    'node_modules. The versions are those of package-lock.json.',
    '',
    ...[...npmPackages()].map(([name, licence]) => `  ${name}: ${licence}`),
    '',
    '3. What the image holds besides',
    '',
    `Node.js ${TESTED}: MIT; its text and those of what is within it stand in the image at /usr/share/doc/node/LICENSE. Within it:`,
    WITHIN_NODE,
    '',
    "Libraries of Debian's packages; their texts stand in the image at /usr/share/doc/PACKAGE/copyright:",
    '',
    ...Object.entries(SYSTEM).map(([name, part]) => line({ ...part, name: `${name} (${part.name})` })),
  ].join('\n')}\n`;
}

/** @returns {boolean} whether NOTICE is what it has to be */
export function noticeIsCurrent() {
  const file = join(root, 'NOTICE');
  return existsSync(file) && readFileSync(file, 'utf8') === noticeText();
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  writeFileSync(join(root, 'NOTICE'), noticeText());
