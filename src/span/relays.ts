import type { Connection } from '../flow/connection.ts';

/** Two connections of one session begin within moments: at least these many are remembered, at most twice as many. */
const MIN_SESSIONS = 2048;

/** Ids of connections, 0 for none. */
interface Endpoints {
  client: number;
  server: number;
}

/**
 * Connections that have in common what their ids are made of, so that the same ids would be given to two spans.
 *
 * A relay that does not end TLS (docker-proxy, HAProxy in TCP mode) hands the client_random on. A capture on several interfaces has a connection
 * before and after its addresses were translated, with the same sequence numbers. Where the agent sees the sockets, translated addresses make two
 * connections as well, but each has one endpoint only: those are the two endpoints of one, and their ids must be the same.
 */
export class Relays {
  /** By client_random or sequence numbers. Two generations: in a Map whose oldest entry goes each time, finding the oldest costs more and more. */
  private recent = new Map<string, Endpoints>();
  private older = new Map<string, Endpoints>();

  /** @returns whether another connection has given the ids of this one's session to the spans of an endpoint that this one has as well */
  hasGiven(connection: Connection): boolean {
    const random = connection.tls?.clientRandom;
    return random !== undefined && this.isSecond(random.toString('latin1'), connection);
  }

  /** The same of the ids that its initial sequence numbers make. Not for a connection whose start was not seen. */
  hasGivenSequences(connection: Connection): boolean {
    const [ofClient, ofServer] = connection.initialSequence;
    return this.isSecond(`${ofClient} ${ofServer}`, connection);
  }

  private isSecond(session: string, { id, client, server }: Connection): boolean {
    // A file knows no sockets: both endpoints are looked at.
    const inFile = client.socket === 0 && server.socket === 0;
    const endpoints = {
      client: client.socket !== 0 || inFile ? id : 0,
      server: server.socket !== 0 || inFile ? id : 0,
    };
    const known = this.recent.get(session) ?? this.older.get(session);
    if (known === undefined) {
      this.remember(session, endpoints);
      return false;
    }
    if (isTaken(known.client, endpoints.client) || isTaken(known.server, endpoints.server)) return true;
    known.client ||= endpoints.client;
    known.server ||= endpoints.server;
    return false;
  }

  private remember(session: string, endpoints: Endpoints): void {
    if (this.recent.size >= MIN_SESSIONS) {
      this.older = this.recent;
      this.recent = new Map();
    }
    this.recent.set(session, endpoints);
  }
}

function isTaken(by: number, mine: number): boolean {
  return by !== 0 && mine !== 0 && by !== mine;
}
