import type { Connection } from '../flow/connection.ts';

/** Two connections of one session begin within moments: at least these many are remembered, at most twice as many. */
const MIN_SESSIONS = 2048;

/** Ids of connections, 0 for none. */
interface Ends {
  client: number;
  server: number;
}

/**
 * TLS sessions that pass through this machine more than once: a relay that does not end TLS (docker-proxy, HAProxy in TCP mode) hands the
 * client_random on, and the ids of the spans, which are made of it, would be given to two spans. Where addresses are translated there are two
 * connections as well, but each has one end only: those are the two ends of one.
 */
export class Relays {
  /** By client_random. Two generations: a Map whose oldest entry goes each time costs more and more to look for the oldest in. */
  private recent = new Map<string, Ends>();
  private older = new Map<string, Ends>();

  /** @returns whether another connection has given the ids of this one's session to the spans of an end that this one has as well */
  hasGiven({ id, client, server, tls }: Connection): boolean {
    if (tls?.clientRandom === undefined) return false;
    const session = tls.clientRandom.toString('latin1');
    // A file knows no sockets: both ends are looked at.
    const inFile = client.socket === 0 && server.socket === 0;
    const ends = {
      client: client.socket !== 0 || inFile ? id : 0,
      server: server.socket !== 0 || inFile ? id : 0,
    };
    const known = this.recent.get(session) ?? this.older.get(session);
    if (known === undefined) {
      this.remember(session, ends);
      return false;
    }
    if (isTaken(known.client, ends.client) || isTaken(known.server, ends.server)) return true;
    known.client ||= ends.client;
    known.server ||= ends.server;
    return false;
  }

  private remember(session: string, ends: Ends): void {
    if (this.recent.size >= MIN_SESSIONS) {
      this.older = this.recent;
      this.recent = new Map();
    }
    this.recent.set(session, ends);
  }
}

function isTaken(by: number, mine: number): boolean {
  return by !== 0 && mine !== 0 && by !== mine;
}
