import { type AttributeKey, KEY } from './attributes.ts';
import type { AttributeValue } from './resource.ts';

/** Who is at the other endpoint of a connection, as a directory of the cluster tells. One object as long as it says the same. */
export interface Peer {
  /** service.peer.name: what the agent at that endpoint calls it in service.name, where there is one. */
  readonly name: string;
  /** service.peer.namespace; empty where there is none. */
  readonly namespace: string;
  /** The name of the Service, where the address is one that stands for it and for nobody in particular; else empty. */
  readonly serviceName: string;
  /** It is in sight of an agent, this one or that of its node. */
  readonly watched: boolean;
}

/** Whose addresses are. Asked once for a connection, and again while it does not know and has learned something. */
export interface PeerDirectory {
  /** Another one when an answer may be another. */
  readonly revision: number;
  /**
   * @param port 0 when it says nothing, as that of a client
   * @param unixMs when the connection began
   */
  find(address: string, port: number, unixMs: number): Peer | undefined;
  /** By the name that a client asked for: of a Service, or of something outside of the cluster; `undefined` when it is neither. */
  findName(host: string): Peer | undefined;
}

/** What a directory says of the endpoints of one connection, kept as long as it cannot say anything else. */
export interface ConnectionPeers {
  revision: number;
  /** Who is at the other endpoint for the client, and for the server. */
  client: Peer | undefined;
  server: Peer | undefined;
}

export function setPeer(set: (key: AttributeKey, value: AttributeValue) => void, peer: Peer | undefined): void {
  if (peer === undefined) return;
  set(KEY.servicePeerName, peer.name);
  if (peer.namespace !== '') set(KEY.servicePeerNamespace, peer.namespace);
  set(KEY.peerService, peer.name);
}
