#!/usr/bin/env node
/**
 * `npm run quickstart`: a Collector (agent-to-gateway.yaml) and Jaeger on this machine, and Prometheus with our rules where it is
 * installed. Their programs are taken from the PATH. They listen on localhost; ports are changed by the variables that PORTS names. Ctrl-C ends
 * all of them. Plain JavaScript without dependencies.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));

const PORTS = {
  LISTEN_PORT: ['OTLP over gRPC', 4317],
  LISTEN_HTTP_PORT: ['OTLP over HTTP', 4318],
  HEALTH_PORT: ["the Collector's health", 13133],
  METRICS_PORT: ['metrics of spans', 8889],
  OWN_METRICS_PORT: ["the Collector's own metrics", 8888],
  JAEGER_OTLP_PORT: ['OTLP to Jaeger', 14317],
  JAEGER_UI_PORT: ['Jaeger', 16686],
  JAEGER_QUERY_PORT: ["Jaeger's queries over gRPC", 16685],
  PROMETHEUS_PORT: ['Prometheus', 9090],
};

const READY_MS = 60_000;
const STOP_MS = 10_000;
const LAST_LINES = 15;

/** @param {string[]} names @returns {string | undefined} the path of the first of these programs in the PATH */
function find(...names) {
  for (const name of names) {
    for (const place of (process.env.PATH ?? '').split(delimiter)) {
      try {
        const path = join(place || '.', name);
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not in this folder.
      }
    }
  }
  return undefined;
}

function fail(...lines) {
  for (const line of lines) process.stderr.write(`quickstart: ${line}\n`);
  process.exit(1);
}

async function isFree(port) {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, 'localhost', () => server.close(() => resolve(true)));
  });
}

const programs = {
  collector: find('otelcol-contrib', 'otelcol'),
  jaeger: find('jaeger'),
  prometheus: find('prometheus'),
};
const missing = [];
if (programs.collector === undefined)
  missing.push(
    'otelcol-contrib is not in the PATH: the OpenTelemetry Collector, contrib distribution, https://opentelemetry.io/docs/collector/install/',
  );
if (programs.jaeger === undefined)
  missing.push('jaeger is not in the PATH: Jaeger 2, https://www.jaegertracing.io/download/');
if (missing.length > 0) fail(...missing);

const port = Object.fromEntries(
  Object.entries(PORTS).map(([name, [, standard]]) => [name, Number(process.env[name] ?? standard)]),
);
const taken = [];
for (const [name, [what]] of Object.entries(PORTS)) {
  if (name === 'PROMETHEUS_PORT' && programs.prometheus === undefined) continue;
  if (!(await isFree(port[name]))) taken.push(`port ${port[name]} (${what}) is in use; ${name}=PORT takes another one`);
}
if (taken.length > 0) fail(...taken);

const work = mkdtempSync(join(tmpdir(), 'wirespan-quickstart-'));
const env = {
  ...process.env,
  ...Object.fromEntries(Object.entries(port).map(([name, value]) => [name, String(value)])),
  LISTEN_ADDRESS: 'localhost',
  METRICS_ADDRESS: 'localhost',
  JAEGER_ENDPOINT: `localhost:${port.JAEGER_OTLP_PORT}`,
  // Jaeger would send traces of itself to where the agents send theirs.
  OTEL_TRACES_SAMPLER: 'always_off',
};
/** @type {Map<string, import('node:child_process').ChildProcess>} */
const running = new Map();
let stopping = false;

async function stop(status) {
  if (stopping) return;
  stopping = true;
  for (const child of running.values()) child.kill('SIGTERM');
  const deadline = Date.now() + STOP_MS;
  while (running.size > 0 && Date.now() < deadline) await sleep(50);
  for (const child of running.values()) child.kill('SIGKILL');
  rmSync(work, { recursive: true, force: true });
  process.exit(status);
}

const logOf = (name) => join(work, `${name}.log`);

function start(name, program, args) {
  const log = openSync(logOf(name), 'a');
  // A process group of its own: Ctrl-C is for us, who end it in order.
  const child = spawn(program, args, { env, stdio: ['ignore', log, log], detached: true });
  running.set(name, child);
  child.on('error', (error) => {
    running.delete(name);
    process.stderr.write(`quickstart: ${program}: ${error.message}\n`);
    void stop(1);
  });
  child.on('exit', (code, signal) => {
    running.delete(name);
    if (stopping) return;
    const lines = readFileSync(logOf(name), 'utf8').trimEnd().split('\n').slice(-LAST_LINES);
    process.stderr.write(`${lines.join('\n')}\nquickstart: ${program} ended (${signal ?? `exit status ${code}`})\n`);
    void stop(1);
  });
}

async function ready(name, url) {
  const deadline = Date.now() + READY_MS;
  while (!stopping) {
    const ok = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return;
    if (Date.now() > deadline) {
      process.stderr.write(
        `quickstart: ${name} does not answer at ${url}; its log: ${readFileSync(logOf(name), 'utf8')}\n`,
      );
      await stop(1);
    }
    await sleep(100);
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void stop(0));

start('jaeger', programs.jaeger, ['--config', join(folder, 'quickstart-jaeger.yaml')]);
start('collector', programs.collector, ['--config', join(folder, 'agent-to-gateway.yaml')]);
if (programs.prometheus !== undefined) {
  const config = readFileSync(join(folder, 'prometheus.yml'), 'utf8')
    .replace('wirespan-rules.yaml', JSON.stringify(join(folder, 'wirespan-rules.yaml')))
    .replace('localhost:8889', `localhost:${port.METRICS_PORT}`)
    .replace('localhost:8888', `localhost:${port.OWN_METRICS_PORT}`);
  writeFileSync(join(work, 'prometheus.yml'), config);
  start('prometheus', programs.prometheus, [
    `--config.file=${join(work, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(work, 'data')}`,
    `--web.listen-address=localhost:${port.PROMETHEUS_PORT}`,
  ]);
}
await ready('jaeger', `http://localhost:${port.JAEGER_UI_PORT}/`);
await ready('collector', `http://localhost:${port.HEALTH_PORT}/`);
if (programs.prometheus !== undefined) await ready('prometheus', `http://localhost:${port.PROMETHEUS_PORT}/-/ready`);

const listen = programs.prometheus === undefined ? '' : ' -- --listen localhost:9464';
const lines = [
  `Jaeger      http://localhost:${port.JAEGER_UI_PORT}`,
  programs.prometheus === undefined
    ? `Prometheus  is not in the PATH: no alerts; the metrics are at http://localhost:${port.METRICS_PORT}/metrics`
    : `Prometheus  http://localhost:${port.PROMETHEUS_PORT}/alerts`,
  `Now         sudo OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:${port.LISTEN_PORT} npm start${listen}`,
  `Logs are in ${work}. Ctrl-C ends all.`,
];
if (!stopping) process.stdout.write(`${lines.join('\n')}\n`);
