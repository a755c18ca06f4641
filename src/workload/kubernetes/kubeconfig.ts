import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import type { Client, KubeConfig } from './client.ts';
import { listAt, objectAt, textAt } from './objects.ts';

/**
 * How the API server is reached.
 *
 * @param file a kubeconfig; `undefined`: the ServiceAccount of this pod, whose token the kubelet replaces in its file
 * @throws Error for people
 */
export function readKubeConfig({ KubeConfig: Config }: Client, file: string | undefined): KubeConfig {
  const config = new Config();
  if (file === undefined) {
    config.loadFromCluster();
    return config;
  }
  try {
    config.loadFromFile(file);
    readTokenFiles(config, file);
  } catch (error) {
    throw new Error(`kubernetes.kubeconfig: ${file} cannot be read: ${(error as Error).message.split('\n')[0]}`);
  }
  if (config.getCurrentCluster() === null) throw new Error(`kubernetes.kubeconfig: ${file} names no current cluster`);
  return config;
}

/**
 * `tokenFile` of a user (client-go, clientcmd/api/v1 AuthInfo), which the library passes over: it goes to the library's reader of the
 * ServiceAccount's token, which looks again every minute.
 */
function readTokenFiles(config: KubeConfig, file: string): void {
  for (const entry of listAt(parse(readFileSync(file, 'utf8')), 'users')) {
    const tokenFile = textAt(objectAt(entry, 'user'), 'tokenFile');
    const user = tokenFile === '' ? null : config.getUser(textAt(entry, 'name'));
    if (user === null) continue;
    const at = config.users.indexOf(user);
    const authProvider = { name: 'tokenFile', config: { tokenFile: resolve(dirname(file), tokenFile) } };
    config.users[at] = { ...user, authProvider };
  }
}
