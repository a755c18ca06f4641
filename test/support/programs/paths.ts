import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout. */
export const root = fileURLToPath(new URL('../../..', import.meta.url));

/** Programs that are built or downloaded once per machine, a folder per name and version. */
export const cacheFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'wirespan');

/** Every time-out of the live tests is multiplied by this: under software emulation a handshake takes forty times as long. */
export const timeScale = Number(process.env.WIRESPAN_TIME_SCALE ?? '1');

/** How long what must happen is waited for: it matters only where it does not, and a busy machine takes its time. */
export const PATIENCE_MS = 60_000;

/** The entry file of the agent under test: what is packaged, unless told otherwise. */
export const mainFile = process.env.WIRESPAN_MAIN ?? join(root, 'dist', 'main.js');

/** How the entry file is started: by this Node, with the options that its first line gives. */
export function mainCommand(nodeArgs: readonly string[] = []): string[] {
  const [, options = ''] = /^#!.* node(.*)$/m.exec(readFileSync(mainFile, 'utf8')) ?? [];
  return [process.execPath, ...options.split(' ').filter(Boolean), ...nodeArgs, mainFile];
}
