import { createHttp1Protocol } from './http1/protocol.ts';
import type { Protocol } from './layer.ts';

export interface ProtocolOptions {
  /** Lower-case names of the HTTP header fields whose values later stages want. */
  readonly keepHeaders: ReadonlySet<string>;
}

/** The application protocols that are looked for, in plain text and inside TLS. A new protocol is one more line here. */
export function createProtocols(options: ProtocolOptions): readonly Protocol[] {
  return [createHttp1Protocol({ keepHeaders: options.keepHeaders })];
}
