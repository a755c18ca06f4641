/** A real Kubernetes API server with its etcd on loopback, RBAC on. No controllers, no scheduler, no kubelet: tests play their parts. */
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from '../programs/cache.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { goBuild } from '../programs/go.ts';
import { freePorts, until } from '../programs/net.ts';
import { root } from '../programs/paths.ts';
import { Running, run } from '../programs/process.ts';
import { KubernetesApi, readFiles } from './api.ts';

const VERSION = '1.37.2';
const ETCD_VERSION = '3.7.0';

/** Long enough for an API server that starts on a machine whose cores are taken. */
const READY_MS = 90_000;

export interface KubernetesPrograms {
  apiServer: string;
  etcd: string;
}

/** The paths of kube-apiserver and etcd, built when they are not in the cache (some minutes on two cores, 0.5 GB of Go modules). */
export async function kubernetesPrograms(): Promise<KubernetesPrograms> {
  const sources = join(root, 'test/support/kubernetes/server');
  // Without a version the server calls itself one that clients cannot parse.
  const version = [
    `gitVersion=v${VERSION}`,
    ...[`gitMajor=${VERSION.split('.')[0]}`, `gitMinor=${VERSION.split('.')[1]}`],
    ...['gitTreeState=clean', `gitCommit=${'0'.repeat(40)}`, 'buildDate=1970-01-01T00:00:00Z'],
  ].map((set) => `-X k8s.io/component-base/version.${set}`);
  const flags = `-ldflags=${['-s', '-w', ...version].join(' ')}`;
  const folder = await cached(`kubernetes-${VERSION}`, 'kube-apiserver', async (work) => {
    await goBuild(sources, join(work, 'kube-apiserver'), 'k8s.io/kubernetes/cmd/kube-apiserver', [flags]);
  });
  const etcdFolder = await cached(`etcd-${ETCD_VERSION}`, 'etcd', async (work) => {
    await goBuild(sources, join(work, 'etcd'), 'go.etcd.io/etcd/server/v3', ['-ldflags=-s -w']);
  });
  return { apiServer: join(folder, 'kube-apiserver'), etcd: join(etcdFolder, 'etcd') };
}

/** Makes a certificate authority, the server's and the administrator's certificates, and the key that signs ServiceAccount tokens. */
async function makeCertificates(folder: string, address: string): Promise<void> {
  const openssl = (...args: string[]) => run('openssl', args, { cwd: folder });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '7'];
  const sign = async (name: string, subject: string, extensions: readonly string[]) => {
    const issuer = name === 'ca' ? [] : ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
    const add = extensions.flatMap((extension) => ['-addext', extension]);
    const files = ['-keyout', `${name}.key`, '-out', `${name}.crt`];
    await openssl('req', '-x509', ...newKey, '-subj', subject, ...files, ...issuer, ...add);
  };
  await sign('ca', '/CN=wirespan-test', ['keyUsage=critical,keyCertSign,cRLSign']);
  const leaf = 'basicConstraints=critical,CA:FALSE';
  const names = `subjectAltName=IP:${address},DNS:localhost,DNS:kubernetes.default.svc`;
  await sign('server', '/CN=kube-apiserver', [leaf, 'extendedKeyUsage=serverAuth', names]);
  await sign('admin', '/O=system:masters/CN=admin', [leaf, 'extendedKeyUsage=clientAuth']);
  // As SEC 1: the server finds the public half in no other form.
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await writeFile(join(folder, 'accounts.key'), privateKey.export({ type: 'sec1', format: 'pem' }));
}

/** Starts one of the two programs again and again: always on the same port, and ended by SIGKILL. */
class Server {
  readonly #cleanup: Cleanup;
  readonly #command: string;
  readonly #args: readonly string[];
  readonly #isReady: () => Promise<boolean>;
  #running: Running | undefined;

  constructor(cleanup: Cleanup, command: string, args: readonly string[], isReady: () => Promise<boolean>) {
    this.#cleanup = cleanup;
    this.#command = command;
    this.#args = args;
    this.#isReady = isReady;
  }

  get running(): Running {
    if (this.#running === undefined) throw new Error(`${this.#command} was not started`);
    return this.#running;
  }

  /** Returns when it answers. */
  async start(): Promise<void> {
    const running = new Running(this.#command, this.#args, {});
    this.#running = running;
    this.#cleanup.add(() => running.stop('SIGKILL'));
    await until(
      async () => {
        if (running.child.exitCode !== null) throw new Error('it ended');
        return (await this.#isReady().catch(() => false)) || undefined;
      },
      `an answer from ${this.#command}`,
      READY_MS,
    ).catch((error: unknown) => {
      throw new Error(`${this.#command} did not come up\n${running.stderr.slice(-5_000)}`, { cause: error });
    });
  }

  /** Ends it as a crash would. SIGTERM would wait for the end of every watch. */
  async kill(): Promise<void> {
    await this.running.stop('SIGKILL');
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  /** It keeps its connections and answers no more. */
  hang(): void {
    process.kill(this.running.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.running.pid, 'SIGCONT');
  }
}

export interface Cluster {
  /** Holds `ca.crt` among others. */
  folder: string;
  host: string;
  port: number;
  caFile: string;
  /** A kubeconfig file of the administrator. */
  kubeconfig: string;
  /** As the administrator. */
  api: KubernetesApi;
  /** Whoever holds such a token. */
  apiOf(token: string): KubernetesApi;
  /** A token of a ServiceAccount that is there. */
  tokenOf(namespace: string, account: string): Promise<string>;
  /** A kubeconfig file that logs in by a token in a file, which may be replaced, as the kubelet does. */
  kubeconfigOf(tokenFile: string): Promise<string>;
  apiServer: Server;
  etcd: Server;
}

function kubeconfig(url: string, user: object): string {
  const named = { cluster: 'test', user: 'test' };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server: url, 'certificate-authority': 'ca.crt' } }],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: named }],
    'current-context': 'test',
  });
}

/**
 * Starts both and returns when the API server is ready. It takes some 300 MB of memory.
 * @param address at which the API server listens: where pods have a network of their own, one that they reach
 */
export async function startCluster(cleanup: Cleanup, address = '127.0.0.1'): Promise<Cluster> {
  const programs = await kubernetesPrograms();
  const folder = await cleanup.temporaryFolder();
  const [port, etcdPort, etcdPeerPort] = await freePorts(3);
  await makeCertificates(folder, address);
  const url = `https://${address}:${port}`;
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const etcdPeerUrl = `http://127.0.0.1:${etcdPeerPort}`;
  const file = (name: string) => join(folder, name);
  const [ca, cert, key] = await readFiles([file('ca.crt'), file('admin.crt'), file('admin.key')]);
  const api = new KubernetesApi(url, { ca: ca!, cert: cert!, key: key! });
  cleanup.add(() => api.close());

  const etcd = new Server(
    cleanup,
    programs.etcd,
    [
      ...['--name=test', `--data-dir=${file('etcd')}`, '--unsafe-no-fsync', '--log-level=warn'],
      ...[`--listen-client-urls=${etcdUrl}`, `--advertise-client-urls=${etcdUrl}`],
      ...[`--listen-peer-urls=${etcdPeerUrl}`, `--initial-advertise-peer-urls=${etcdPeerUrl}`],
      `--initial-cluster=test=${etcdPeerUrl}`,
    ],
    async () => (await fetch(`${etcdUrl}/health`)).ok,
  );
  const apiServer = new Server(
    cleanup,
    programs.apiServer,
    [
      ...[`--etcd-servers=${etcdUrl}`, `--bind-address=${address}`, '--advertise-address=127.0.0.1'],
      ...[`--secure-port=${port}`, `--tls-cert-file=${file('server.crt')}`],
      ...[`--tls-private-key-file=${file('server.key')}`, `--client-ca-file=${file('ca.crt')}`],
      ...['--authorization-mode=Node,RBAC', '--service-cluster-ip-range=10.96.0.0/16'],
      ...['--endpoint-reconciler-type=none', '--service-account-issuer=https://kubernetes.default.svc'],
      `--service-account-key-file=${file('accounts.key')}`,
      `--service-account-signing-key-file=${file('accounts.key')}`,
      // It would refuse every pod until a controller has made the namespace's default account.
      '--disable-admission-plugins=ServiceAccount',
    ],
    async () => {
      await api.request('GET', '/readyz');
      // The server itself makes it, a moment after it is ready for the first time.
      await api.request('GET', '/api/v1/namespaces/default');
      return true;
    },
  );
  await etcd.start();
  await apiServer.start();

  await writeFile(
    file('admin.kubeconfig'),
    kubeconfig(url, { 'client-certificate': 'admin.crt', 'client-key': 'admin.key' }),
  );
  let made = 0;
  return {
    folder,
    host: address,
    port: port!,
    caFile: file('ca.crt'),
    kubeconfig: file('admin.kubeconfig'),
    api,
    apiOf(token) {
      const other = new KubernetesApi(url, { ca: ca! }, token);
      cleanup.add(() => other.close());
      return other;
    },
    async tokenOf(namespace, account) {
      const request = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: 7_200 },
      };
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
      const { status } = await api.request<{ status: { token: string } }>('POST', path, request);
      return status.token;
    },
    async kubeconfigOf(tokenFile) {
      made += 1;
      const name = file(`account-${made}.kubeconfig`);
      await writeFile(name, kubeconfig(url, { tokenFile }));
      return name;
    },
    apiServer,
    etcd,
  };
}
