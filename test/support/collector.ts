import { join } from 'node:path';
import { cached } from './cache.ts';
import { goBuild } from './go.ts';
import { root } from './paths.ts';

const VERSION = '0.161.0';

/**
 * The path of an OpenTelemetry Collector with the components that our configurations use, built when it is not in the cache (some
 * minutes, 1.2 GB of Go modules). Its sources are what the Collector's builder made from collector/builder.yaml.
 */
export async function collectorProgram(): Promise<string> {
  const folder = await cached(`otelcol-${VERSION}`, 'otelcol', (work) =>
    goBuild(join(root, 'test/support/collector'), join(work, 'otelcol'), '.', ['-ldflags=-s -w']),
  );
  return join(folder, 'otelcol');
}
