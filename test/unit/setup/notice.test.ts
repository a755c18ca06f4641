/** NOTICE names everything that the packages carry of others, each under a licence that this project can be distributed with. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { root } from '../../support/programs/paths.ts';

// The set-up is plain JavaScript, without types.
const setup = <T>(name: string) => import(pathToFileURL(join(root, 'native/setup', name)).href) as Promise<T>;
const { TESTED } = await setup<{ TESTED: string }>('node.mjs');
const { HEADERS, LINKED, noticeText, npmPackages } = await setup<{
  HEADERS: object;
  LINKED: object;
  noticeText(): string;
  npmPackages(): Map<string, string>;
}>('notice.mjs');

const read = (name: string): string => readFileSync(join(root, name), 'utf8');
const NOTICE = read('NOTICE');

/** Licences that ask for no more than their text. */
const PERMISSIVE = new Set([
  'Apache-2.0',
  'MIT',
  'ISC',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'PSF-2.0',
  'Unlicense',
]);
/** The Unlicense asks for nothing, so that a package under it may come without its text. */
const NO_TEXT_NEEDED = new Set(['Unlicense', '0BSD']);

interface Manifest {
  name: string;
  version: string;
  license?: string;
  dependencies?: Record<string, string>;
}
const manifestOf = (folder: string) => JSON.parse(read(`${folder}/package.json`)) as Manifest;

test('NOTICE is what npm run notice writes', () => assert.equal(NOTICE, noticeText()));

test('every package that is installed with ours has a permissive licence, which it says itself, and its text', () => {
  const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, { dev?: boolean }> };
  const folders = Object.entries(lock.packages).flatMap(([path, { dev }]) => (path === '' || dev ? [] : [path]));
  assert.ok(folders.length > 100);
  for (const folder of folders) {
    const { name, version, license = '' } = manifestOf(folder);
    assert.equal(npmPackages().get(`${name} ${version}`), license, folder);
    assert.ok(NOTICE.includes(`\n  ${name} ${version}: ${license}\n`), `${name} ${version}`);
    assert.ok(PERMISSIVE.has(license), `${folder}: ${license}`);
    const texts = readdirSync(join(root, folder)).filter((file) => /^licen[cs]e/i.test(file));
    assert.ok(texts.length > 0 || NO_TEXT_NEEDED.has(license), `${folder} has no text of ${license}`);
  }
  for (const name of Object.keys(manifestOf('.').dependencies ?? {})) assert.ok(NOTICE.includes(`\n  ${name} `), name);
});

test('every library that is linked into the addon is named', () => {
  const words = execFileSync('pkg-config', ['--static', '--libs', 'libbpf', 'libelf', 'zlib'], { encoding: 'utf8' });
  const ofTheSystem = ['-lc', '-lm', '-lpthread', '-ldl', '-lrt'];
  const ofTheBuild = read('native/build.mjs').match(/-static-lib\w+(?:\+\+)?/g) ?? [];
  const asked = [...words.trim().split(/\s+/), ...ofTheBuild].filter((word) => /^-(l|static)/.test(word));
  assert.ok(asked.includes('-lbpf') && asked.includes('-static-libstdc++'));
  for (const word of asked.filter((name) => !ofTheSystem.includes(name))) assert.ok(word in LINKED, word);
});

test('every header of others, but those of the C and C++ libraries, is named', () => {
  const sources = ['native', 'bpf', 'src'].flatMap((folder) =>
    readdirSync(join(root, folder), { encoding: 'utf8', recursive: true })
      .filter((file) => /\.(c|cc|h)$/.test(file))
      .map((file) => `${folder}/${file}`),
  );
  const found = new Set<string>();
  for (const file of sources) {
    for (const [, name] of read(file).matchAll(/^\s*#\s*include\s*<([^>]+)>/gm)) {
      const key = Object.keys(HEADERS).find((prefix) => name!.startsWith(prefix));
      if (key !== undefined) found.add(key);
      else
        assert.match(
          name!,
          /^(sys|netinet|arpa)\/\w+\.h$|^[a-z_]+$|^(dirent|fcntl|malloc|pthread|signal|stdbool|unistd)\.h$/,
          file,
        );
    }
  }
  assert.deepEqual([...found].sort(), Object.keys(HEADERS).sort());
});

test('texts of licences are there, in the packages too', () => {
  const named = new Set([...NOTICE.matchAll(/licenses\/([\w.-]+\.txt)/g)].map(([, file]) => file!));
  assert.deepEqual([...named].sort(), readdirSync(join(root, 'licenses')).sort());
  assert.equal(read('licenses/node-addon-api.txt'), read('node_modules/node-addon-api/LICENSE.md'));
  const { files } = JSON.parse(read('package.json')) as { files: string[] };
  for (const name of ['LICENSE', 'NOTICE', 'licenses']) {
    assert.ok(existsSync(join(root, name)) && files.includes(name), `${name} is not in the npm package`);
    assert.ok(read('.dockerignore').split('\n').includes(`!${name}`), `${name} is not sent to the build of the image`);
  }
});

test('the Node that is named is the one of the image', () => {
  assert.equal(/^ARG NODE=node:(\d+\.\d+\.\d+)/m.exec(read('Dockerfile'))?.[1], TESTED);
  assert.ok(NOTICE.includes(`Node.js ${TESTED}: MIT`));
});
