import { protocolModules } from '../protocol/registry.ts';
import type { Counters } from '../telemetry/counters.ts';

/**
 * What the console says, line by line, while nothing has become a span: what is watched, what was seen of it, and what to try.
 *
 * @param watched such as `every process of this machine`
 */
export function nothingSeenYet(watched: string, counters: Counters): string[] {
  const { tcp, tls, undecryptable } = counters.connections;
  const protocols = protocolModules.map(({ title }) => title).join(', ');
  const lines = [
    `no HTTP request or SQL statement yet; watching ${watched}: ${protocols}, plain and inside TLS by OpenSSL 3`,
  ];
  if (tcp > 0) {
    const unread = Object.entries(undecryptable).map(([reason, n]) => `${n} ${reason}`);
    const why = unread.length === 0 ? '' : `; could not be read: ${unread.join(', ')}`;
    lines.push(`  seen: ${plural(tcp, 'TCP connection')}, ${tls} with TLS${why}`);
  }
  lines.push('  try, in another terminal:  curl -s https://example.com/ -o /dev/null');
  lines.push('  what can be seen and why:  wirespan doctor');
  return lines;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
