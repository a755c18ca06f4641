/**
 * The key log format of NSS, as draft-ietf-tls-keylogfile describes it: a line is `label client_random secret`, in hex.
 * Sans-IO: the follower of a file hands over its text.
 */

/** Labels that carry a secret named by the client random. */
export const KEY_LOG_LABELS = [
  'CLIENT_RANDOM',
  'CLIENT_EARLY_TRAFFIC_SECRET',
  'EARLY_EXPORTER_SECRET',
  'CLIENT_HANDSHAKE_TRAFFIC_SECRET',
  'SERVER_HANDSHAKE_TRAFFIC_SECRET',
  'CLIENT_TRAFFIC_SECRET_0',
  'SERVER_TRAFFIC_SECRET_0',
  'EXPORTER_SECRET',
] as const;
export type KeyLogLabel = (typeof KEY_LOG_LABELS)[number];

export interface KeyLogEntry {
  readonly label: KeyLogLabel;
  /** 32 bytes. */
  readonly clientRandom: Buffer;
  /** 32 or 48 bytes; 48 for CLIENT_RANDOM, whose secret is the TLS 1.2 master secret. */
  readonly secret: Buffer;
}

/**
 * Why a line yields no entry:
 * - `blank`: empty, white space, or a comment.
 * - `unsupported`: a label of another kind, such as RSA (which names an encrypted premaster secret, not a connection) or the ECH ones.
 * - `malformed`: not the format.
 */
export type KeyLogSkip = 'blank' | 'unsupported' | 'malformed';

const LINE = /^([A-Z][A-Z0-9_]*)\s+([0-9A-Fa-f]+)\s+([0-9A-Fa-f]+)$/;
const SUPPORTED: ReadonlySet<string> = new Set(KEY_LOG_LABELS);

/** Longest line that can be one: label, random, and a secret of 64 bytes. Beyond it, no search by regular expression. */
const MAX_LINE_LENGTH = 1024;

/** Parses one line, with or without its line end. */
export function parseKeyLogLine(line: string): KeyLogEntry | KeyLogSkip {
  if (line.length > MAX_LINE_LENGTH) return 'malformed';
  const text = line.trim();
  if (text === '' || text.startsWith('#')) return 'blank';
  const match = LINE.exec(text);
  if (match === null) return 'malformed';
  const label = match[1]!;
  if (!SUPPORTED.has(label)) return 'unsupported';
  const secretBytes = match[3]!.length / 2;
  const fits = label === 'CLIENT_RANDOM' ? secretBytes === 48 : secretBytes === 32 || secretBytes === 48;
  if (match[2]!.length !== 64 || !fits) return 'malformed';
  return {
    label: label as KeyLogLabel,
    clientRandom: Buffer.from(match[2]!, 'hex'),
    secret: Buffer.from(match[3]!, 'hex'),
  };
}

/** The line for a secret, without line end. */
export function formatKeyLogLine(label: KeyLogLabel, clientRandom: Buffer, secret: Buffer): string {
  return `${label} ${clientRandom.toString('hex')} ${secret.toString('hex')}`;
}
