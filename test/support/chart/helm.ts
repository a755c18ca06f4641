import { join } from 'node:path';
import { cached } from '../programs/cache.ts';
import { goBuild } from '../programs/go.ts';
import { root } from '../programs/paths.ts';

const VERSION = '3.22.0';
/** The minor version of Kubernetes that it takes for the cluster's when it is told none: that of its client library. */
const KUBERNETES_MINOR = 37;

/** The path of Helm, built when it is not in the cache (about a minute). */
export async function helmProgram(): Promise<string> {
  const versions = [
    `-X helm.sh/helm/v3/internal/version.version=v${VERSION}`,
    '-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1',
    `-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=${KUBERNETES_MINOR}`,
  ];
  const folder = await cached(`helm-${VERSION}`, 'helm', (work) =>
    goBuild(join(root, 'test/support/chart/helm'), join(work, 'helm'), 'helm.sh/helm/v3/cmd/helm', [
      `-ldflags=${['-s', '-w', ...versions].join(' ')}`,
    ]),
  );
  return join(folder, 'helm');
}
