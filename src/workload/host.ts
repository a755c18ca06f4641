import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** This machine. */
export interface Host {
  readonly name: string;
  /** machine-id(5); `undefined` where there is none, as in most container images. */
  readonly id: string | undefined;
}

/**
 * @param root where the host's file system is seen, `/` or a mount of it
 */
export function readHost(root = '/'): Host {
  const base = root.endsWith('/') ? root : `${root}/`;
  const id = readMachineId(`${base}etc/machine-id`) ?? readMachineId(`${base}var/lib/dbus/machine-id`);
  return { name: hostname(), id };
}

/** 32 hexadecimal digits; `uninitialized` on an image that has not booted yet. */
function readMachineId(path: string): string | undefined {
  try {
    const text = readFileSync(path, 'utf8').trim();
    return /^[0-9a-f]{32}$/.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}
