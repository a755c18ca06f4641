/** `npm run quickstart` with the real programs: brings them up, ends them, says what is missing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { collectorProgram } from '../support/backends/collector.ts';
import { jaegerProgram } from '../support/backends/jaeger.ts';
import { exportSpans, someSpan } from '../support/otlp/export.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { freePorts, until } from '../support/programs/net.ts';
import { root } from '../support/programs/paths.ts';
import { runAnyway, start } from '../support/programs/process.ts';

const NAMES = [
  'LISTEN_PORT',
  'LISTEN_HTTP_PORT',
  'HEALTH_PORT',
  'METRICS_PORT',
  'OWN_METRICS_PORT',
  'JAEGER_OTLP_PORT',
  'JAEGER_UI_PORT',
  'JAEGER_QUERY_PORT',
  'PROMETHEUS_PORT',
];
const command = [process.execPath, join(root, 'collector-config/quickstart.mjs')] as const;

/** A PATH with these programs and no others. */
async function pathWith(cleanup: Cleanup, programs: Readonly<Record<string, string>>): Promise<string> {
  const folder = await cleanup.temporaryFolder();
  for (const [name, target] of Object.entries(programs)) await symlink(target, join(folder, name));
  return folder;
}

async function freeEnvironment(): Promise<Record<string, string>> {
  const ports = await freePorts(NAMES.length);
  return Object.fromEntries(NAMES.map((name, index) => [name, String(ports[index])]));
}

const answers = (port: string, path = '/') =>
  fetch(`http://localhost:${port}${path}`).then(
    (response) => response.json().catch(() => true),
    () => undefined,
  );

suite('quickstart', () => {
  test('brings all up, and Ctrl-C ends all', async (t) => {
    const cleanup = cleanupAfter(t);
    const programs = { 'otelcol-contrib': await collectorProgram(), jaeger: await jaegerProgram() };
    const env = await freeEnvironment();
    // Where this machine has Prometheus.
    const path = `${await pathWith(cleanup, programs)}:/usr/bin`;
    const running = start(cleanup, command[0], command.slice(1), { env: { ...env, PATH: path } });
    await running.waitFor('stdout', /Ctrl-C ends all/, 60_000);
    assert.match(running.stdout, new RegExp(`^Jaeger +http://localhost:${env.JAEGER_UI_PORT}$`, 'm'));
    assert.match(
      running.stdout,
      new RegExp(`OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:${env.LISTEN_PORT} npm start`),
    );
    const span = { ...someSpan(0), resource: resourceFromAttributes({ 'service.name': 'quick' }) };
    assert.equal(await exportSpans(`http://localhost:${env.LISTEN_PORT}`, [span]), 0);
    await until(async () => {
      const services = (await answers(env.JAEGER_UI_PORT!, '/api/services')) as { data: string[] | null } | undefined;
      return services?.data?.includes('quick') || undefined;
    }, 'the span in Jaeger');
    await until(
      async () => {
        const targets = (await answers(env.PROMETHEUS_PORT!, '/api/v1/targets')) as {
          data: { activeTargets: { labels: { job: string }; health: string }[] };
        };
        const up = targets.data.activeTargets.filter(({ health }) => health === 'up').map(({ labels }) => labels.job);
        return up.sort().join() === 'wirespan-gateway,wirespan-spans' || undefined;
      },
      'the targets of Prometheus',
      60_000,
    );
    const folder = /Logs are in (\S+)\./.exec(running.stdout)![1]!;
    const { exitCode, stderr } = await running.stop('SIGINT', 30_000);
    assert.deepEqual([exitCode, stderr], [0, '']);
    for (const name of ['JAEGER_UI_PORT', 'HEALTH_PORT', 'PROMETHEUS_PORT'])
      assert.equal(await answers(env[name]!), undefined, name);
    await assert.rejects(writeFile(join(folder, 'file'), ''), { code: 'ENOENT' });
  });

  test('a program that ends takes the others with it', async (t) => {
    const cleanup = cleanupAfter(t);
    const failing = join(await cleanup.temporaryFolder(), 'failing');
    await writeFile(failing, '#!/bin/sh\necho no such thing >&2\nexit 3\n', { mode: 0o755 });
    const env = await freeEnvironment();
    const path = await pathWith(cleanup, { 'otelcol-contrib': failing, jaeger: await jaegerProgram(), sh: '/bin/sh' });
    const { exitCode, stderr } = await runAnyway(command[0], command.slice(1), { env: { ...env, PATH: path } });
    assert.equal(exitCode, 1);
    assert.match(stderr, /^no such thing\nquickstart: .*otelcol-contrib ended \(exit status 3\)\n$/);
    assert.equal(await answers(env.JAEGER_UI_PORT!), undefined);
  });

  test('says what is missing, all at once, and which port is taken', async (t) => {
    const cleanup = cleanupAfter(t);
    const none = await runAnyway(command[0], command.slice(1), { env: { PATH: await pathWith(cleanup, {}) } });
    assert.equal(none.exitCode, 1);
    assert.match(none.stderr, /otelcol-contrib is not in the PATH.*\n.*jaeger is not in the PATH/);

    const server = createServer().listen(0, 'localhost');
    cleanup.add(() => server.close());
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const path = await pathWith(cleanup, { otelcol: '/bin/true', jaeger: '/bin/true' });
    const env = { ...(await freeEnvironment()), JAEGER_UI_PORT: String(port), PATH: path };
    const taken = await runAnyway(command[0], command.slice(1), { env });
    assert.equal(taken.exitCode, 1);
    assert.equal(taken.stderr, `quickstart: port ${port} (Jaeger) is in use; JAEGER_UI_PORT=PORT takes another one\n`);
  });
});
