import { join } from 'node:path';
import type { Cleanup } from './cleanup.ts';
import { run } from './process.ts';

export interface Certificate {
  certFile: string;
  keyFile: string;
}

const LOCAL_NAMES = ['DNS:localhost', 'IP:127.0.0.1', 'IP:::1'];

/** A self-signed certificate for this machine's names, unless for others, in files of a temporary folder. */
export async function selfSigned(
  cleanup: Cleanup,
  kind: 'rsa' | 'ec' = 'ec',
  extraNames: readonly string[] = [],
  localNames: readonly string[] = LOCAL_NAMES,
): Promise<Certificate> {
  const folder = await cleanup.temporaryFolder();
  const certFile = join(folder, 'cert.pem');
  const keyFile = join(folder, 'key.pem');
  const key = kind === 'rsa' ? ['rsa:2048'] : ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  const names = [...localNames, ...extraNames].join(',');
  await run('openssl', [
    ...['req', '-x509', '-nodes', '-days', '7', '-newkey', ...key, '-keyout', keyFile, '-out', certFile],
    ...['-subj', '/CN=localhost', '-addext', `subjectAltName=${names}`],
  ]);
  return { certFile, keyFile };
}
