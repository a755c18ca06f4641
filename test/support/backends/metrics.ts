import assert from 'node:assert/strict';
import { run } from '../programs/process.ts';

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
  /** Labels of its exemplar. */
  exemplar: Record<string, string> | undefined;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*?)\})? (\S+)(?: # \{(.*?)\} \S+ \S+)?$/;

/** The samples of an exposition, in either format. */
export function parseMetrics(text: string): Sample[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => {
    const match = LINE.exec(line);
    assert.ok(match, `not a sample: ${line}`);
    const [, name, labels = '', value, exemplar] = match;
    const number = value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value);
    return {
      name: name!,
      labels: labelsOf(labels),
      value: number,
      exemplar: exemplar === undefined ? undefined : labelsOf(exemplar),
    };
  });
}

function labelsOf(text: string): Record<string, string> {
  const pairs = text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g);
  return Object.fromEntries([...pairs].map(([, name, value]) => [name!, value!.replace(/\\(.)/g, '$1')]));
}

/** The sum of all samples of that name with these labels; 0 when there is none. */
export function sumOf(samples: readonly Sample[], name: string, labels: Record<string, string> = {}): number {
  return samples
    .filter(
      (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
    )
    .reduce((sum, { value }) => sum + value, 0);
}

export const OPEN_METRICS = 'application/openmetrics-text; version=1.0.0';

export async function scrape(url: string, accept = OPEN_METRICS): Promise<Sample[]> {
  return parseMetrics(await scrapeText(url, accept));
}

export async function scrapeText(url: string, accept: string): Promise<string> {
  const response = await fetch(`${url}/metrics`, { headers: { accept } });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type')?.split(';')[0], accept.split(';')[0]);
  return response.text();
}

/** What Prometheus's own checker says of an exposition in its older format: nothing. */
export async function checkWithPromtool(url: string): Promise<void> {
  const input = await scrapeText(url, 'text/plain');
  const { stdout, stderr } = await run('promtool', ['check', 'metrics'], { input });
  assert.equal(stdout + stderr, '');
}
