import { COMMAND_NAMES, CONTAINERS, MODULE_PREFIXES } from './command-names.ts';

/*
 * What a command means for the connection. All that is not named here is answered by one reply, and changes nothing that is followed.
 */
export const ORDINARY = 0;
/** Its argument is the database, once the server has said OK. */
export const SELECT = 1;
export const MULTI = 2;
export const EXEC = 3;
export const DISCARD = 4;
/** Back to the state of a new connection. */
export const RESET = 5;
/** One answer for each channel: SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE. */
export const SUBSCRIBE = 6;
export const UNSUBSCRIBE = 7;
export const MONITOR = 8;
/** SYNC, PSYNC: the connection becomes that of a replica. */
export const REPLICATION = 9;
/** CLIENT REPLY ON, OFF or SKIP. */
export const CLIENT_REPLY = 10;
/** FCALL and EVALSHA: the argument names a script. */
export const SCRIPT = 11;
/** The server ends instead of an answer. */
export const SHUTDOWN = 12;
/** The server closes the connection. */
export const QUIT = 13;

const KINDS: Readonly<Record<string, number>> = {
  SELECT,
  MULTI,
  EXEC,
  DISCARD,
  RESET,
  SUBSCRIBE,
  PSUBSCRIBE: SUBSCRIBE,
  SSUBSCRIBE: SUBSCRIBE,
  UNSUBSCRIBE,
  PUNSUBSCRIBE: UNSUBSCRIBE,
  SUNSUBSCRIBE: UNSUBSCRIBE,
  MONITOR,
  SYNC: REPLICATION,
  PSYNC: REPLICATION,
  'CLIENT REPLY': CLIENT_REPLY,
  FCALL: SCRIPT,
  FCALL_RO: SCRIPT,
  EVALSHA: SCRIPT,
  EVALSHA_RO: SCRIPT,
  SHUTDOWN,
  QUIT,
};

/** Placeholders of a text; what has more arguments ends in `...`. */
const MAX_PLACEHOLDERS = 16;

/** A command's name as the application spells it. One object for all connections. */
export class Command {
  /** `GET`, `CONFIG GET`, `get`; `_OTHER` for a name that is not known, which may be a secret (rename-command). */
  readonly name: string;
  /** How many arguments the name takes: 2 for `CONFIG GET`. */
  readonly words: number;
  readonly kind: number;
  /** The second argument is part of the name where it is among these. */
  readonly subcommands: NameTable | undefined;
  private readonly texts: string[] = [];

  constructor(name: string, words: number, kind: number, subcommands?: NameTable) {
    this.name = name;
    this.words = words;
    this.kind = kind;
    this.subcommands = subcommands;
  }

  /** @returns the name with a `?` for each argument, such as `SET ? ?`; empty where the name is not known */
  text(argumentCount: number): string {
    const values = Math.min(argumentCount - this.words, MAX_PLACEHOLDERS + 1);
    let text = this.texts[values];
    if (text === undefined) {
      if (this === OTHER) return '';
      text = this.name + ' ?'.repeat(Math.min(values, MAX_PLACEHOLDERS)) + (values > MAX_PLACEHOLDERS ? ' ...' : '');
      this.texts[values] = text;
    }
    return text;
  }
}

/** A name that no table has. */
export const OTHER = new Command('_OTHER', 1, ORDINARY);

const LONGEST_NAME = 32;

/** Finds names in bytes without making a string. */
export class NameTable {
  private readonly places: (Entry | undefined)[];
  private readonly mask: number;

  /** @param entries names that differ, in any letters */
  constructor(entries: readonly { readonly key: string; readonly command: Command }[]) {
    let size = 16;
    while (size < entries.length * 4) size *= 2;
    this.mask = size - 1;
    this.places = new Array<Entry | undefined>(size).fill(undefined);
    for (const { key, command } of entries) {
      const bytes = Buffer.from(key, 'latin1');
      let at = hash(bytes, 0, bytes.length) & this.mask;
      while (this.places[at] !== undefined) at = (at + 1) & this.mask;
      this.places[at] = { bytes, command };
    }
  }

  /** The command of these bytes in just these letters. */
  exact(bytes: Buffer, start: number, end: number): Command | undefined {
    let at = hash(bytes, start, end) & this.mask;
    for (;;) {
      const entry = this.places[at];
      if (entry === undefined) return undefined;
      if (isEqual(entry.bytes, bytes, start, end)) return entry.command;
      at = (at + 1) & this.mask;
    }
  }

  /** The same in letters of any case: a name in mixed ones is that in capitals. */
  find(bytes: Buffer, start: number, end: number): Command | undefined {
    if (end - start > LONGEST_NAME) return undefined;
    const found = this.exact(bytes, start, end);
    if (found !== undefined) return found;
    const capitals = Buffer.from(bytes.toString('latin1', start, end).toUpperCase(), 'latin1');
    return this.exact(capitals, 0, capitals.length);
  }
}

interface Entry {
  readonly bytes: Buffer;
  readonly command: Command;
}

function hash(bytes: Buffer, start: number, end: number): number {
  let value = end - start;
  for (let i = start; i < end; i++) value = (value * 31 + bytes[i]!) | 0;
  return value ^ (value >>> 15);
}

function isEqual(name: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = 0; i < name.length; i++) if (name[i] !== bytes[start + i]) return false;
  return true;
}

/** Both usual spellings of each name. */
function tableOf(names: readonly string[], prefix = ''): NameTable {
  return new NameTable(
    names.flatMap((key) => {
      const full = prefix + key;
      const words = prefix === '' ? 1 : 2;
      const kind = KINDS[full] ?? ORDINARY;
      const inner = prefix === '' ? CONTAINERS[key] : undefined;
      const subcommands = inner === undefined ? undefined : tableOf(inner.split(' '), `${key} `);
      return [
        { key, command: new Command(full, words, kind, subcommands) },
        { key: key.toLowerCase(), command: new Command(full.toLowerCase(), words, kind, subcommands) },
      ];
    }),
  );
}

const known = tableOf(COMMAND_NAMES.trim().split(/\s+/));
/** Commands of modules that were seen: their names cannot be listed, their prefixes can. */
const ofModules = new Map<string, Command>();
const MAX_MODULE_COMMANDS = 512;
const MODULE_COMMAND = /^([A-Za-z]+)\.[A-Za-z_.]{1,24}$/;

/** @returns the command whose name is bytes[start..end), OTHER where it is not known */
export function findCommand(bytes: Buffer, start: number, end: number): Command {
  return known.find(bytes, start, end) ?? moduleCommand(bytes, start, end);
}

/** Whether it is a name that Redis itself has. */
export function isKnownName(bytes: Buffer, start: number, end: number): boolean {
  return known.find(bytes, start, end) !== undefined;
}

function moduleCommand(bytes: Buffer, start: number, end: number): Command {
  if (end - start > LONGEST_NAME) return OTHER;
  const name = bytes.toString('latin1', start, end);
  const seen = ofModules.get(name);
  if (seen !== undefined) return seen;
  const prefix = MODULE_COMMAND.exec(name)?.[1];
  if (prefix === undefined || !MODULE_PREFIXES.has(prefix.toUpperCase())) return OTHER;
  if (ofModules.size >= MAX_MODULE_COMMANDS) return OTHER;
  const command = new Command(name, 1, ORDINARY);
  ofModules.set(name, command);
  return command;
}
