/** Segments that neither end of a connection has sent, and both ends refuse: the connection goes on for the kernel, and for the agent. */
import assert from 'node:assert/strict';
import { after, suite, test } from 'node:test';
import { clientScript } from '../support/http/clients.ts';
import { startNginx } from '../support/http/nginx.ts';
import { assertPairs, ofPorts, servers, targetOf } from '../support/http/spans.ts';
import { newCgroup } from '../support/kernel/cgroup.ts';
import { assertKernelClean } from '../support/kernel/kernel.ts';
import { startAgent } from '../support/programs/agent.ts';
import { cleanupAfter } from '../support/programs/cleanup.ts';
import { run } from '../support/programs/process.ts';

suite('stray segments', () => {
  after(assertKernelClean);

  test('every request that nginx has logged has its spans, whatever comes between', async (t) => {
    const cleanup = cleanupAfter(t);
    const cgroup = await newCgroup(cleanup);
    const agent = await startAgent(cleanup, { args: ['--cgroup', cgroup.path] });
    const nginx = await startNginx(cleanup, { prefix: cgroup.prefix });
    const [command, ...args] = [...cgroup.prefix, 'python3', clientScript('stray-segments.py'), `${nginx.plainPort}`];
    const { stdout } = await run(command!, args);
    const kinds = stdout.trim().split('\n');
    assert.equal(kinds.length, 9);
    // What the kernel refuses: every connection has answered to its end.
    for (const line of kinds) assert.match(line, / 3$/);
    const logged = (await nginx.accessLog(27)).map(({ request_uri }) => request_uri).sort();
    assert.equal(logged.length, 27);
    await agent.waitForSpans(54, ofPorts(nginx.plainPort));
    const { spans: all, stats } = await agent.stop();
    const spans = all.filter(ofPorts(nginx.plainPort));
    assertPairs(spans);
    assert.deepEqual(servers(spans).map(targetOf).sort(), logged);
    assert.deepEqual(stats.incomplete, {});
    assert.equal(stats.connections.tcp, 9);
  });
});
