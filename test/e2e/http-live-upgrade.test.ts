/** Package upgrades while the agent runs: a library that is replaced, and the programs that go on with the old file. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { startPythonServer } from '../support/http/servers.ts';
import { assertPairs, clientOf, ofPorts, servers, targetOf } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';

const LIBRARY = '/usr/lib/x86_64-linux-gnu/libcrypto.so.3';

/** The inode of the libcrypto that a process has mapped, and whether its file is still there. */
function mappedLibrary(pid: number): { inode: number; deleted: boolean } {
  const line = readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .find((text) => /libcrypto\.so\.3( \(deleted\))?$/.test(text));
  assert.ok(line, `process ${pid} has no libcrypto`);
  return { inode: Number(line.split(/\s+/)[4]), deleted: line.endsWith('(deleted)') };
}

suite('a library that is replaced while the agent runs', () => {
  after(assertKernelClean);

  test('programs with the old file and with the new one are both seen', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const libraries = join(await cleanup.temporaryFolder(), 'lib');
    mkdirSync(libraries);
    const file = join(libraries, 'libcrypto.so.3');
    const env = { LD_LIBRARY_PATH: libraries };
    /** As a package manager does it: a new file takes the name over. */
    const install = () => {
      copyFileSync(LIBRARY, join(libraries, 'new'));
      renameSync(join(libraries, 'new'), file);
      return statSync(file).ino;
    };
    const server = () => startPythonServer(cleanup, { env, prefix: cgroup.prefix });
    const [command, ...prefix] = cgroup.prefix;
    /** curl reads the library by its name, so it is always one with the newest. */
    const ask = (url: string) => run(command!, [...prefix, 'curl', '-sk', '-o', '/dev/null', url], { env });

    const inodes = [install()];
    const old = await server();
    await ask(`${old.url}/bytes/1?old-server&old-client`);
    inodes.push(install());
    assert.deepEqual(mappedLibrary(old.running.pid), { inode: inodes[0], deleted: true });
    await ask(`${old.url}/bytes/1?old-server&new-client`);
    const young = await server();
    assert.deepEqual(mappedLibrary(young.running.pid), { inode: inodes[1], deleted: false });
    await ask(`${young.url}/bytes/1?new-server&new-client`);
    // Twice: nothing of the first replacement may be in the way.
    inodes.push(install());
    assert.equal(new Set(inodes).size, 3);
    for (const { url } of [old, young]) await ask(`${url}/bytes/1?older-server&newest-client`);

    const ours = ofPorts(old.port, young.port);
    await agent.waitForSpans(10, ours);
    const { stats, spans, stderr } = await agent.stop();
    assert.doesNotMatch(stderr, /cannot be probed/);
    assert.equal(spans.filter(ours).length, 10);
    assertPairs(spans);
    assert.deepEqual(
      servers(spans)
        .sort((a, b) => a.startUs - b.startUs)
        .map((span) => [
          span.attributes['server.port'],
          targetOf(span),
          clientOf(span, spans).resource['service.name'],
        ]),
      [
        [old.port, '/bytes/1?old-server&old-client', 'curl'],
        [old.port, '/bytes/1?old-server&new-client', 'curl'],
        [young.port, '/bytes/1?new-server&new-client', 'curl'],
        [old.port, '/bytes/1?older-server&newest-client', 'curl'],
        [young.port, '/bytes/1?older-server&newest-client', 'curl'],
      ],
    );
    assert.deepEqual([stats.connections.decrypted, stats.connections.undecryptable], [5, {}]);
    assert.deepEqual([stats.spans.made, stats.spans.exported, stats.packets.lost], [10, 10, 0]);
  });
});
