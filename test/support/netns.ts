import type { Cleanup } from './cleanup.ts';
import { run } from './process.ts';

export interface Namespaces {
  /** A network namespace, joined to this one by a veth pair. */
  name: string;
  /** Addresses of this side and of the namespace's side. */
  here: { v4: string; v6: string };
  there: { v4: string; v6: string };
  /** What to put before a command to run it there. */
  prefix: readonly string[];
}

let made = 0;

/** Makes a network namespace that a veth pair joins to this one; both go at the end. Needs root. */
export async function joinedNamespace(cleanup: Cleanup): Promise<Namespaces> {
  made += 1;
  // Interface names hold 15 characters.
  const id = `${process.pid.toString(36)}${made.toString(36)}`;
  const name = `wirespan-${id}`;
  const [outer, inner] = [`wso${id}`, `wsi${id}`];
  const net = `10.213.${process.pid % 250}`;
  const net6 = `fd5c:${(process.pid % 65536).toString(16)}:${made.toString(16)}::`;
  const here = { v4: `${net}.${made * 4 + 1}`, v6: `${net6}1` };
  const there = { v4: `${net}.${made * 4 + 2}`, v6: `${net6}2` };
  const ip = (...args: string[]) => run('ip', args);
  await ip('netns', 'add', name);
  // The veth pair goes with the namespace that holds one of its ends.
  cleanup.add(() => ip('netns', 'delete', name));
  await ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', name);
  await ip('addr', 'add', `${here.v4}/30`, 'dev', outer);
  await ip('addr', 'add', `${here.v6}/64`, 'dev', outer, 'nodad');
  await ip('link', 'set', outer, 'up');
  await ip('-n', name, 'addr', 'add', `${there.v4}/30`, 'dev', inner);
  await ip('-n', name, 'addr', 'add', `${there.v6}/64`, 'dev', inner, 'nodad');
  await ip('-n', name, 'link', 'set', inner, 'up');
  await ip('-n', name, 'link', 'set', 'lo', 'up');
  return { name, here, there, prefix: ['ip', 'netns', 'exec', name] };
}
