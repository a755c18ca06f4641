/** The Helm chart, and what is made of it: rendered objects, and files of the repository that are kept as a render makes them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { configSchema } from '../../../src/config/schema.ts';
import type { KubernetesObject } from '../kubernetes/api.ts';
import { root } from '../programs/paths.ts';
import { run } from '../programs/process.ts';
import { helmProgram } from './helm.ts';

export const chartFolder = join(root, 'charts/wirespan');
const goldenFolder = join(root, 'test/golden/chart');
const NAMESPACE = 'wirespan';

/** What the chart has to hold itself, as Helm reads nothing outside of it. */
const carriedFiles: readonly [string, string][] = [
  ['collector-config/agent-to-gateway.yaml', 'charts/wirespan/files/agent-to-gateway.yaml'],
  ['collector-config/wirespan-rules.yaml', 'charts/wirespan/files/rules.yaml'],
];

/** `helm template` of the release `wirespan` in the namespace `wirespan`. */
export async function renderChart(args: readonly string[] = []): Promise<string> {
  const command = ['template', 'wirespan', chartFolder, '--namespace', NAMESPACE, ...args];
  return (await run(await helmProgram(), command)).stdout;
}

export function objectsOf(text: string): KubernetesObject[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as KubernetesObject | null)
    .filter((object) => object !== null);
}

/** Without what only says that Helm made it. */
function plain(text: string): string {
  return text
    .split('\n')
    .filter((line) => !/^ *(?:helm\.sh\/chart|app\.kubernetes\.io\/managed-by): |^# Source: /.test(line))
    .join('\n');
}

const MANIFEST_HEAD = `# Wirespan without Helm: the chart with its default values. Name your image and the endpoint (OTEL_EXPORTER_OTLP_ENDPOINT, in the
# DaemonSet), then: kubectl apply -f wirespan.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: ${NAMESPACE}
  labels:
    # The host's pid namespace, a host path and capabilities: what the baseline forbids.
    pod-security.kubernetes.io/enforce: privileged
`;

/** What the chart's schema says of `config`: the agent's own schema, as far as Helm understands it. */
function configValuesSchema(): object {
  const whole = z.toJSONSchema(configSchema, { io: 'input', target: 'draft-7', unrepresentable: 'any' });
  const slim = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map(slim);
    if (node === null || typeof node !== 'object') return node;
    const entries = Object.entries(node).filter(
      ([key, value]) =>
        !(key === 'description' && typeof value === 'string') &&
        !(key === 'format' && typeof value === 'string') &&
        // The regular expressions of Go have neither look-ahead nor look-behind.
        !(key === 'pattern' && typeof value === 'string' && /\(\?[=!<]/.test(value)) &&
        !(key === 'default' && !isSchema(value)) &&
        key !== '$schema',
    );
    return Object.fromEntries(entries.map(([key, value]) => [key, slim(value)]));
  };
  return slim(whole) as object;
}

/** Whether a value under the name `default` is the schema of a key that is called so. */
function isSchema(value: unknown): boolean {
  return value !== null && typeof value === 'object' && 'type' in value;
}

interface ValuesSchema {
  properties: Record<string, unknown>;
}

/** Values and arguments of each golden file: the name, without its ending, of a file of values. */
export const goldens: readonly { name: string; args: readonly string[] }[] = [
  { name: 'everything', args: ['--api-versions', 'monitoring.coreos.com/v1'] },
  { name: 'existing', args: [] },
  { name: 'older', args: ['--kube-version', '1.28.0'] },
];

/** What Helm renders for a golden file. */
export function renderGolden({ name, args }: (typeof goldens)[number]): Promise<string> {
  return renderChart(['--values', join(goldenFolder, `${name}.values.yaml`), ...args]);
}

/** The same as it is kept: what the chart carries from elsewhere has its own tests, and changes for reasons of its own. */
async function goldenText(golden: (typeof goldens)[number]): Promise<string> {
  let text = await renderGolden(golden);
  for (const [source] of carriedFiles) {
    const lines = readFileSync(join(root, source), 'utf8').trimEnd().split('\n');
    for (const indent of ['    ', '  ']) {
      text = text.replace(
        lines.map((line) => `${indent}${line}`).join('\n'),
        () => `${indent}# (the text of ${source})`,
      );
    }
  }
  return text.replace(/^( *checksum\/config: )[0-9a-f]{64}$/gm, '$1(a hash)');
}

/** Files that are made and kept, by their paths from the checkout, with what they have to hold. */
export async function madeFiles(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  // The chart carries what lies outside of it, too.
  for (const [source, target] of carriedFiles) files.set(target, readFileSync(join(root, source), 'utf8'));
  const schemaFile = 'charts/wirespan/values.schema.json';
  const schema = JSON.parse(readFileSync(join(root, schemaFile), 'utf8')) as ValuesSchema;
  schema.properties.config = configValuesSchema();
  files.set(schemaFile, `${JSON.stringify(schema, null, 2)}\n`);
  return files;
}

/** The same of those that Helm renders, from a chart whose other files are as they have to be. */
export async function renderedFiles(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  files.set('charts/manifests/wirespan.yaml', MANIFEST_HEAD + plain(await renderChart(['--skip-tests'])));
  for (const golden of goldens) files.set(`test/golden/chart/${golden.name}.yaml`, await goldenText(golden));
  return files;
}
