import type { Segment } from '../packet/decode.ts';
import { type Direction, FROM_CLIENT, FROM_SERVER } from './connection.ts';

/**
 * Guesses which end of a connection is the client when its start was not seen.
 *
 * In this order: the first bytes, when they can only come from one side (a TLS ClientHello or ServerHello, the start line of an
 * HTTP message); a port that other connections were opened to; the lower port, as servers bind well-known ports and clients get
 * ephemeral ones. A wrong guess is put right by the first message that is recognised (FlowControl.swapRoles).
 */
export class RoleGuess {
  /** One byte per port: connections were seen being opened to it. */
  private readonly listening = new Uint8Array(65_536);

  /** A SYN to this port was answered, or sent. */
  sawListener(port: number): void {
    this.listening[port] = 1;
  }

  /** @returns which end sent the segment */
  sender(bytes: Buffer, segment: Segment): Direction {
    const told = fromFirstBytes(bytes, segment.payloadStart, segment.payloadEnd);
    if (told !== undefined) return told;
    const source = this.listening[segment.srcPort]!;
    const destination = this.listening[segment.dstPort]!;
    if (source !== destination) return source > destination ? FROM_SERVER : FROM_CLIENT;
    return segment.srcPort < segment.dstPort ? FROM_SERVER : FROM_CLIENT;
  }
}

const TLS_HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
/** The longest registered method names (RFC 9110 16.1.1) stay below this. */
const METHOD_LENGTH = 20;

function fromFirstBytes(bytes: Buffer, start: number, end: number): Direction | undefined {
  // RFC 8446 5.1: type, legacy_record_version, length; then the handshake type.
  if (end - start >= 6 && bytes[start] === TLS_HANDSHAKE && bytes[start + 1] === 3) {
    if (bytes[start + 5] === CLIENT_HELLO) return FROM_CLIENT;
    if (bytes[start + 5] === SERVER_HELLO) return FROM_SERVER;
    return undefined;
  }
  // RFC 9112 3 and 4: `HTTP/1.1 200 OK` or `GET /path HTTP/1.1`.
  if (end - start >= 7 && bytes.toString('latin1', start, start + 7) === 'HTTP/1.') return FROM_SERVER;
  const limit = Math.min(end, start + METHOD_LENGTH);
  for (let i = start; i < limit; i++) {
    const byte = bytes[i]!;
    if (byte === 0x20) return i - start >= 3 && isTargetStart(bytes[i + 1], i + 1 < end) ? FROM_CLIENT : undefined;
    if (byte < 0x41 || byte > 0x5a) return undefined;
  }
  return undefined;
}

/** `/path`, `*`, `http://...`; a CONNECT's host name is left to the ports. */
function isTargetStart(byte: number | undefined, present: boolean): boolean {
  return present && (byte === 0x2f || byte === 0x2a || byte === 0x68);
}
