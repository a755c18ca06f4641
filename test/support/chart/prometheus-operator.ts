import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { KubernetesObject } from '../kubernetes/api.ts';
import { cached } from '../programs/cache.ts';
import { run } from '../programs/process.ts';

const VERSION = '0.85.0';
const KINDS = ['podmonitors', 'servicemonitors', 'prometheusrules'];

/** The kinds that the chart uses, as the Prometheus Operator defines them; from its Go module. */
export async function prometheusOperatorDefinitions(): Promise<KubernetesObject[]> {
  const folder = await cached(`prometheus-operator-${VERSION}`, `${KINDS.at(-1)}.yaml`, async (work) => {
    const module = `github.com/prometheus-operator/prometheus-operator@v${VERSION}`;
    // Not in a checkout: there is no go.mod to ask.
    const cwd = await mkdtemp(join(tmpdir(), 'wirespan-go-'));
    try {
      const { stdout } = await run('go', ['mod', 'download', '-json', module], { cwd, timeoutMs: 300_000 });
      const { Dir } = JSON.parse(stdout) as { Dir: string };
      for (const kind of KINDS) {
        const source = join(Dir, 'example/prometheus-operator-crd', `monitoring.coreos.com_${kind}.yaml`);
        await copyFile(source, join(work, `${kind}.yaml`));
      }
    } finally {
      await rm(cwd, { recursive: true, force: true });
    }
  });
  return Promise.all(
    KINDS.map(async (kind) => parse(await readFile(join(folder, `${kind}.yaml`), 'utf8')) as KubernetesObject),
  );
}
