import type { IncompleteReason } from '../exchange/exchange.ts';
import type { EndReason } from '../flow/connection.ts';

/** What the end of a connection means for an exchange that is not whole. */
export function incompleteReason(reason: EndReason): IncompleteReason {
  switch (reason) {
    case 'fin':
    case 'reused':
      return 'connection_closed';
    case 'reset':
      return 'connection_reset';
    case 'idle':
      return 'timeout';
    case 'unreadable':
      return 'gap';
    case 'evicted':
      return 'limit';
    case 'memory':
      return 'memory';
    case 'shutdown':
      return 'shutdown';
    default: {
      const never: never = reason;
      return never;
    }
  }
}
