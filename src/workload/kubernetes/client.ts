/**
 * The door to @kubernetes/client-node: its KubeConfig (addresses, certificates, tokens and their rotation, credential plugins) and its
 * informer. Loaded only when a cluster is asked for.
 *
 * The library's generated classes for every kind of object and request, ten megabytes of source, are left out while it loads: nothing
 * here uses them, and they would take half of the agent's memory. So is undici, its second HTTP client; requests go through Node's own (api.ts).
 */
import { registerHooks } from 'node:module';
import type { KubeConfig as KubeConfigClass, ListWatch as ListWatchClass } from '@kubernetes/client-node';

export type KubeConfig = KubeConfigClass;
export type ListWatch<T extends object> = ListWatchClass<T>;

export interface Client {
  readonly KubeConfig: typeof KubeConfigClass;
  readonly ListWatch: typeof ListWatchClass;
}

/** What stands in the place of modules that nothing here uses: the names that the library imports from them. */
const STAND_INS: Readonly<Record<string, string>> = {
  './gen/index.js': 'export class ServerConfiguration {} export function createConfiguration() {}',
  // Of it the informer uses one function, on strings.
  './gen/models/ObjectSerializer.js': 'export class ObjectSerializer { static serialize(value) { return value; } }',
  './watch.js': 'export class Watch {}',
  undici: 'export class Agent {} export class ProxyAgent {}',
};

let loaded: Promise<Client> | undefined;

export function loadClient(): Promise<Client> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<Client> {
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const source = STAND_INS[specifier];
      if (source === undefined || !/\/@kubernetes\/client-node\/dist\/\w+\.js$/.test(context.parentURL ?? '')) {
        return next(specifier, context);
      }
      return { url: `data:text/javascript,${encodeURIComponent(source)}`, format: 'module', shortCircuit: true };
    },
  });
  try {
    const [{ KubeConfig }, { ListWatch }] = await Promise.all([
      import('@kubernetes/client-node/dist/config.js'),
      import('@kubernetes/client-node/dist/cache.js'),
    ]);
    return { KubeConfig, ListWatch };
  } finally {
    hooks.deregister();
  }
}
