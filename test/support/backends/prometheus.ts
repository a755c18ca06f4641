/** A real Prometheus, from Debian's package, with the configuration and the rules that we ship. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePort, until } from '../programs/net.ts';
import { root } from '../programs/paths.ts';
import { type Running, start } from '../programs/process.ts';

const folderOfConfig = join(root, 'collector-config');
export const RULES_FILE = 'wirespan-rules.yaml';

const UNITS_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A duration such as `5m`, in milliseconds. */
function durationMs(text: string): number {
  const match = /^(\d+)(ms|s|m|h|d)$/.exec(text);
  if (match === null) throw new Error(`${text} is no duration`);
  return Number(match[1]) * UNITS_MS[match[2]!]!;
}

/** The rules with all their times (windows, offsets, `for`, intervals) divided, and nothing else changed. */
export function hastened(rules: string, factor: number): string {
  const divided = (text: string) => `${Math.round(durationMs(text) / factor)}ms`;
  return rules
    .replace(/\[(\d+[a-z]+)\]/g, (_, time: string) => `[${divided(time)}]`)
    .replace(/\boffset (\d+[a-z]+)/g, (_, time: string) => `offset ${divided(time)}`)
    .replace(/^( *(?:for|interval): )(\d+[a-z]+)$/gm, (_, key: string, time: string) => key + divided(time));
}

export interface Alert {
  name: string;
  labels: Readonly<Record<string, string>>;
  annotations: Readonly<Record<string, string>>;
  state: 'pending' | 'firing';
  /** When its condition became true. */
  activeAtMs: number;
}

export interface Result {
  labels: Readonly<Record<string, string>>;
  value: number;
}

export interface Prometheus {
  running: Running;
  address: string;
  query(expression: string): Promise<Result[]>;
  alerts(): Promise<Alert[]>;
  /** All that it holds of these series. */
  exemplars(selector: string): Promise<Result[]>;
}

export interface PrometheusOptions {
  /** Addresses by the name of the job in our configuration; other jobs are left out. */
  targets: Readonly<Record<string, string>>;
  /** Every time of the rules and the intervals of scrapes and evaluation are shorter by this. */
  factor: number;
}

interface ScrapeConfig {
  job_name: string;
  static_configs: { targets: string[] }[];
}

/** Starts Prometheus with our configuration and rules, on targets and at a speed of the test's. */
export async function startPrometheus(cleanup: Cleanup, options: PrometheusOptions): Promise<Prometheus> {
  const folder = await cleanup.temporaryFolder();
  const { factor, targets } = options;
  const config = parse(await readFile(join(folderOfConfig, 'prometheus.yml'), 'utf8')) as {
    global: Record<string, string>;
    scrape_configs: ScrapeConfig[];
  };
  for (const key of Object.keys(config.global))
    config.global[key] = `${Math.round(durationMs(config.global[key]!) / factor)}ms`;
  const jobs = config.scrape_configs.map(({ job_name }) => job_name);
  for (const job of Object.keys(targets)) if (!jobs.includes(job)) throw new Error(`there is no job ${job}`);
  config.scrape_configs = config.scrape_configs.flatMap((job) => {
    const target = targets[job.job_name];
    return target === undefined ? [] : [{ ...job, static_configs: [{ targets: [target] }] }];
  });
  // YAML holds JSON.
  await writeFile(join(folder, 'prometheus.yml'), JSON.stringify(config));
  await writeFile(join(folder, RULES_FILE), hastened(await readFile(join(folderOfConfig, RULES_FILE), 'utf8'), factor));
  const address = `127.0.0.1:${await freePort()}`;
  const running = start(cleanup, 'prometheus', [
    ...[`--config.file=${join(folder, 'prometheus.yml')}`, `--storage.tsdb.path=${join(folder, 'data')}`],
    ...[`--web.listen-address=${address}`, '--storage.tsdb.retention.time=1h', '--log.level=warn'],
    '--enable-feature=exemplar-storage',
  ]);
  await until(async () => {
    if (running.child.exitCode !== null) throw new Error('it ended');
    const ready = await fetch(`http://${address}/-/ready`)
      .then(({ ok }) => ok)
      .catch(() => false);
    return ready || undefined;
  }, 'a Prometheus that is ready').catch((error: unknown) => {
    throw new Error(`Prometheus did not come up\n${running.stderr}`, { cause: error });
  });
  const ask = async <T>(path: string): Promise<T> => {
    const response = await fetch(`http://${address}/api/v1/${path}`);
    const answer = (await response.json()) as { status: string; error?: string; data: T };
    if (answer.status !== 'success') throw new Error(`Prometheus answers ${answer.error} to ${path}`);
    return answer.data;
  };
  return {
    running,
    address,
    async query(expression) {
      const { resultType, result } = await ask<{
        resultType: string;
        result: { metric: Record<string, string>; value: [number, string] }[];
      }>(`query?query=${encodeURIComponent(expression)}`);
      if (resultType !== 'vector') throw new Error(`${expression} is a ${resultType}`);
      return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    async exemplars(selector) {
      const query = new URLSearchParams({
        query: selector,
        start: '0',
        end: String(Math.ceil(Date.now() / 1000) + 60),
      });
      const series = await ask<{ exemplars: { labels: Record<string, string>; value: string }[] }[]>(
        `query_exemplars?${query}`,
      );
      return series.flatMap(({ exemplars }) =>
        exemplars.map(({ labels, value }) => ({ labels, value: Number(value) })),
      );
    },
    async alerts() {
      const { alerts } = await ask<{
        alerts: {
          labels: Record<string, string>;
          annotations: Record<string, string>;
          state: Alert['state'];
          activeAt: string;
        }[];
      }>('alerts');
      return alerts.map(({ labels: { alertname, ...labels }, annotations, state, activeAt }) => ({
        ...{ name: alertname!, labels, annotations, state, activeAtMs: Date.parse(activeAt) },
      }));
    },
  };
}
