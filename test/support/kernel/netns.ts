import type { Cleanup } from '../programs/cleanup.ts';
import { run } from '../programs/process.ts';

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

export interface TranslatedPath {
  /** What to put before a command to run it at the client's or at the server's end. */
  client: readonly string[];
  server: readonly string[];
  /** The server's own address, and the one that clients know it by. */
  serverAddress: string;
  publicAddress: string;
  /** The only client's address that the server sees. */
  translatedAddress: string;
  /** What comes to this port of the public address goes to that port of the server. */
  forward(publicPort: number, port: number): Promise<void>;
}

/**
 * Makes three network namespaces in a row, client, router and server. The router translates both addresses and both ports: the server's
 * (DNAT), and the client's, who seems to be the router (SNAT). Needs root and iptables.
 */
export async function translatedPath(cleanup: Cleanup): Promise<TranslatedPath> {
  made += 1;
  const id = `${process.pid.toString(36)}${made.toString(36)}`;
  const [client, router, server] = ['c', 'r', 's'].map((role) => `wirespan-${role}${id}`) as [string, string, string];
  const ip = (...args: string[]) => run('ip', args);
  for (const name of [client, router, server]) {
    await ip('netns', 'add', name);
    cleanup.add(() => ip('netns', 'delete', name));
    await ip('-n', name, 'link', 'set', 'lo', 'up');
  }
  const first = made * 4;
  const subnets = { client: `10.214.${process.pid % 250}`, server: `10.215.${process.pid % 250}` };
  const join = async (name: string, role: 'client' | 'server'): Promise<void> => {
    const [outer, inner] = [`wr${role[0]}${id}`, `w${role[0]}${id}`];
    await ip('link', 'add', inner, 'netns', name, 'type', 'veth', 'peer', 'name', outer, 'netns', router);
    await ip('-n', router, 'addr', 'add', `${subnets[role]}.${first + 1}/30`, 'dev', outer);
    await ip('-n', name, 'addr', 'add', `${subnets[role]}.${first + 2}/30`, 'dev', inner);
    await ip('-n', router, 'link', 'set', outer, 'up');
    await ip('-n', name, 'link', 'set', inner, 'up');
  };
  await join(client, 'client');
  await join(server, 'server');
  const publicAddress = `${subnets.client}.${first + 1}`;
  const serverAddress = `${subnets.server}.${first + 2}`;
  const inside = (name: string) => ['ip', 'netns', 'exec', name];
  const inRouter = (...words: string[]) => ip('netns', 'exec', router, ...words);
  await inRouter('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
  const nat = (chain: string, ...words: string[]) =>
    inRouter('iptables', '-t', 'nat', '-A', chain, '-p', 'tcp', ...words);
  await nat('POSTROUTING', '-d', serverAddress, '-j', 'MASQUERADE', '--to-ports', '1024-1999');
  return {
    client: inside(client),
    server: inside(server),
    serverAddress,
    publicAddress,
    translatedAddress: `${subnets.server}.${first + 1}`,
    async forward(publicPort, port) {
      const to = ['-j', 'DNAT', '--to-destination', `${serverAddress}:${port}`];
      await nat('PREROUTING', '-d', publicAddress, '--dport', String(publicPort), ...to);
    },
  };
}
