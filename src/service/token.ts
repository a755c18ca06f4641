import { readFileSync, statSync } from 'node:fs';
import { tokenPattern } from '../config/listen.ts';
import { whyNot } from '../config/system-error.ts';

const MAX_FILE_BYTES = 4096;

/**
 * Reads the token from a file, whose last line feed does not count.
 *
 * @throws Error for people, which does not quote it
 */
export function readToken(file: string): string {
  let text: string;
  try {
    const stat = statSync(file);
    // A pipe would hold up the start.
    if (!stat.isFile() || stat.size > MAX_FILE_BYTES)
      throw new Error(`expected a file of at most ${MAX_FILE_BYTES} bytes`);
    text = readFileSync(file, 'latin1').trim();
  } catch (error) {
    throw new Error(`telemetry.token_file: cannot read ${file}: ${whyNot(error, 'read')}`);
  }
  if (!tokenPattern.test(text)) {
    throw new Error(`telemetry.token_file: ${file} holds no token: expected 16 or more of A-Z a-z 0-9 - . _ ~ + /`);
  }
  return text;
}
