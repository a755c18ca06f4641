import {
  SECRET_TLS12_MASTER,
  SECRET_TLS13_EARLY,
  SECRET_TLS13_HANDSHAKE,
  type SecretRecord,
} from '../capture/records.ts';
import type { Limits } from '../config/limits.ts';
import { type Counters, count } from '../telemetry/counters.ts';
import { type KeyLogLabel, parseKeyLogLine } from './keylog.ts';
import { KeyLogLines } from './keylog-lines.ts';

/** What is known for one name: the secrets of a client random by key-log label, or one kernel secret. */
export type SecretLabel = KeyLogLabel | 'TLS13_HANDSHAKE' | 'TLS13_EARLY';

/**
 * Names a secret in the store. TLS 1.3 secrets of the kernel are named by the hash of the messages they were made with: the
 * ClientHello to the ServerHello (handshake) or the ClientHello alone (early). All others by the client random.
 */
export type SecretName = string;

/** @param length of the hash; the buffer may be longer */
export function handshakeName(transcriptHash: Buffer, length = transcriptHash.length): SecretName {
  return `H${transcriptHash.toString('latin1', 0, length)}`;
}

export function earlyName(clientHelloHash: Buffer): SecretName {
  return `E${clientHelloHash.toString('latin1')}`;
}

export function randomName(clientRandom: Buffer): SecretName {
  return `R${clientRandom.toString('latin1')}`;
}

interface Entry {
  /** The first secret of that name: of most there is only this. */
  readonly label: SecretLabel;
  secret: Buffer;
  others: Map<SecretLabel, Buffer> | undefined;
  /** When it came; Infinity for secrets without time, such as those of a key log read ahead, which only their number limits. */
  readonly timeUs: number;
}

const RANDOM_LENGTH = 32;
/** Secrets without age that one call of `advance` looks at. */
const AGELESS_PER_ADVANCE = 16;

/**
 * The TLS secrets of this machine, by name, until the connection they belong to asks for them: it may have been seen before or not yet.
 * Bounded in number (limits.secrets) and age (limits.secretUs); what is evicted is zeroed.
 *
 * It also accounts for the bytes that all connections together hold while they wait (limits.tlsPendingBytes).
 */
export class SecretStore {
  readonly #limits: Limits;
  readonly #counters: Counters;
  /** In the order of arrival, so that the oldest is first. */
  readonly #entries = new Map<SecretName, Entry>();
  readonly #watchers = new Map<SecretName, Set<() => void>>();
  #pendingBytes = 0;
  /** Adds the secrets of a client random that are kept elsewhere. */
  source: ((clientRandom: Buffer) => void) | undefined = undefined;

  constructor(limits: Limits, counters: Counters) {
    this.#limits = limits;
    this.#counters = counters;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Bytes held by the connections that wait. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Takes a secret from the kernel; the record's buffers become the store's. */
  addKernelSecret(record: SecretRecord) {
    this.advance(record.timeUs);
    const { kind, secret, context, timeUs } = record;
    if (kind === SECRET_TLS12_MASTER) {
      // The seeds of "key expansion": server_random, client_random (RFC 5246 6.3).
      if (context.length !== 2 * RANDOM_LENGTH || secret.length !== 48) return this.#refuse(secret);
      this.#add(randomName(context.subarray(RANDOM_LENGTH)), 'CLIENT_RANDOM', secret, timeUs);
    } else if (secret.length !== context.length || (secret.length !== 32 && secret.length !== 48)) {
      // Both have the length of the hash.
      this.#refuse(secret);
    } else if (kind === SECRET_TLS13_HANDSHAKE) {
      this.#add(handshakeName(context), 'TLS13_HANDSHAKE', secret, timeUs);
    } else if (kind === SECRET_TLS13_EARLY) {
      this.#add(earlyName(context), 'TLS13_EARLY', secret, timeUs);
    } else {
      this.#refuse(secret);
    }
  }

  /** Takes one line of a key log. @param timeUs when it was read; without it the secret does not age */
  addKeyLogLine(line: string, timeUs = Number.POSITIVE_INFINITY): void {
    const entry = parseKeyLogLine(line);
    if (typeof entry === 'string') {
      if (entry !== 'blank') count(this.#counters.secrets, `key_log_line_${entry}`);
      return;
    }
    this.#add(randomName(entry.clientRandom), entry.label, entry.secret, timeUs);
  }

  /** Takes whole lines, such as a key-log file or a Decryption Secrets Block. */
  addKeyLogText(text: string | Buffer, timeUs = Number.POSITIVE_INFINITY): void {
    const lines = new KeyLogLines((line) => this.addKeyLogLine(line, timeUs));
    lines.push(typeof text === 'string' ? Buffer.from(text, 'latin1') : text);
    lines.finish();
  }

  /** The secret, undefined when it is not known. Borrowed: it is zeroed when it is evicted. */
  get(name: SecretName, label: SecretLabel): Buffer | undefined {
    let entry = this.#entries.get(name);
    if (entry === undefined && this.source !== undefined && name.startsWith('R')) {
      this.source(Buffer.from(name.slice(1), 'latin1'));
      entry = this.#entries.get(name);
    }
    if (entry === undefined) return undefined;
    return entry.label === label ? entry.secret : entry.others?.get(label);
  }

  /** The connection of that name has ended: what came from the kernel or a live key log for it is of no more use. */
  forget(name: SecretName): void {
    const entry = this.#entries.get(name);
    if (entry === undefined || entry.timeUs === Number.POSITIVE_INFINITY) return;
    wipe(entry);
    this.#entries.delete(name);
  }

  /** Calls `wake` whenever a secret of that name comes, until `unwatch`. */
  watch(name: SecretName, wake: () => void): void {
    const watchers = this.#watchers.get(name);
    if (watchers === undefined) this.#watchers.set(name, new Set([wake]));
    else watchers.add(wake);
  }

  unwatch(name: SecretName, wake: () => void): void {
    const watchers = this.#watchers.get(name);
    if (watchers === undefined) return;
    watchers.delete(wake);
    if (watchers.size === 0) this.#watchers.delete(name);
  }

  /** Makes room for bytes that wait. @returns false when all connections together hold too much */
  reservePending(bytes: number): boolean {
    if (this.#pendingBytes + bytes > this.#limits.tlsPendingBytes) return false;
    this.#pendingBytes += bytes;
    return true;
  }

  releasePending(bytes: number): void {
    this.#pendingBytes -= bytes;
  }

  /** Time passes: secrets that were not asked for in limits.secretUs are forgotten. */
  advance(timeUs: number): void {
    let ageless = 0;
    for (const [name, entry] of this.#entries) {
      if (entry.timeUs === Number.POSITIVE_INFINITY) {
        // Out of the way of those behind it; a few at a time.
        if (++ageless > AGELESS_PER_ADVANCE) break;
        this.#entries.delete(name);
        this.#entries.set(name, entry);
      } else if (timeUs - entry.timeUs > this.#limits.secretUs) {
        this.#evict(name, entry, 'expired');
      } else {
        break;
      }
    }
  }

  /** Zeroes all. */
  clear(): void {
    for (const entry of this.#entries.values()) wipe(entry);
    this.#entries.clear();
  }

  #add(name: SecretName, label: SecretLabel, secret: Buffer, timeUs: number): void {
    count(this.#counters.secrets, 'received');
    const known = this.#entries.get(name);
    if (known === undefined) {
      this.#makeRoom();
      this.#entries.set(name, { label, secret, others: undefined, timeUs });
    } else {
      // Both ends are on this machine, or the library asked twice. Whichever is wrong cannot open a record.
      const before = known.label === label ? known.secret : known.others?.get(label);
      if (before !== secret) before?.fill(0);
      if (known.label === label) known.secret = secret;
      else known.others = (known.others ?? new Map<SecretLabel, Buffer>()).set(label, secret);
    }
    const watchers = this.#watchers.get(name);
    if (watchers !== undefined) for (const wake of [...watchers]) wake();
  }

  #makeRoom(): void {
    if (this.#entries.size < this.#limits.secrets) return;
    for (const [name, entry] of this.#entries) {
      this.#evict(name, entry, 'evicted');
      return;
    }
  }

  #evict(name: SecretName, entry: Entry, reason: string): void {
    wipe(entry);
    this.#entries.delete(name);
    count(this.#counters.secrets, reason);
  }

  #refuse(secret: Buffer): void {
    secret.fill(0);
    count(this.#counters.secrets, 'malformed');
  }
}

function wipe(entry: Entry): void {
  entry.secret.fill(0);
  if (entry.others !== undefined) for (const secret of entry.others.values()) secret.fill(0);
}
