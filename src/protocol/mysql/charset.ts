import type { TextEncoding } from '../../sql/analyser.ts';

/**
 * Character sets whose multi-byte characters may contain ASCII bytes, by name: of those texts nobody can say where a literal ends. EUC sets
 * (ujis, euckr, gb2312, eucjpms) have none in theirs.
 */
const UNSAFE_NAME = /^(?:big5|sjis|cp932|gbk|gb18030|ucs2|utf16|utf16le|utf32)$/;
const UTF8_NAME = /^(?:utf8|utf8mb3|utf8mb4|binary|ascii)$/;

/** @returns how the texts of a client with this character set are to be read */
export function encodingOfName(name: string): TextEncoding {
  const lower = name.toLowerCase();
  if (UNSAFE_NAME.test(lower)) return 'unsafe';
  return UTF8_NAME.test(lower) ? 'utf8' : 'latin1';
}

/** Collations by their number (INFORMATION_SCHEMA.COLLATIONS), as the handshake names them: first and last of each run. */
const UNSAFE_IDS: readonly (readonly [number, number])[] = [
  [1, 1], // big5
  [13, 13], // sjis
  [28, 28], // gbk
  [35, 35], // ucs2
  [54, 56], // utf16, utf16le
  [60, 62], // utf32, utf16le
  [84, 84], // big5
  [87, 88], // gbk, sjis
  [90, 90], // ucs2
  [95, 96], // cp932
  [101, 124], // utf16
  [128, 151], // ucs2
  [159, 183], // ucs2, utf32
  [248, 250], // gb18030
];
const UTF8_IDS: readonly (readonly [number, number])[] = [
  [0, 0], // the server's default
  [11, 11], // ascii
  [33, 33], // utf8mb3
  [45, 46], // utf8mb4
  [63, 63], // binary
  [65, 65], // ascii
  [76, 76], // utf8mb3
  [83, 83], // utf8mb3
  [192, 247], // utf8mb3, utf8mb4
  [253, 255], // utf8mb4
];

export function encodingOfCollation(id: number): TextEncoding {
  if (includes(UNSAFE_IDS, id)) return 'unsafe';
  return id > 255 || includes(UTF8_IDS, id) ? 'utf8' : 'latin1';
}

function includes(runs: readonly (readonly [number, number])[], id: number): boolean {
  return runs.some(([first, last]) => id >= first && id <= last);
}
