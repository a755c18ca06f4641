/** What a field means for the framing of its message, besides being kept or not. */
export const FRAMING_NONE = 0;
export const FRAMING_CONTENT_LENGTH = 1;
export const FRAMING_TRANSFER_ENCODING = 2;
export const FRAMING_EXPECT = 3;
export const FRAMING_UPGRADE = 4;
export type FramingField =
  | typeof FRAMING_NONE
  | typeof FRAMING_CONTENT_LENGTH
  | typeof FRAMING_TRANSFER_ENCODING
  | typeof FRAMING_EXPECT
  | typeof FRAMING_UPGRADE;

/** One field name that the parser looks for. */
export interface KnownField {
  readonly name: string;
  readonly codes: Uint8Array;
  /** Its values are kept for later stages. */
  readonly keep: boolean;
  readonly framing: FramingField;
}

const FRAMING_FIELDS: readonly (readonly [string, FramingField])[] = [
  ['content-length', FRAMING_CONTENT_LENGTH],
  ['transfer-encoding', FRAMING_TRANSFER_ENCODING],
  ['expect', FRAMING_EXPECT],
  ['upgrade', FRAMING_UPGRADE],
];

/** The field names to look for, found by length and bytes: no string is made of a name that nobody asked for. */
export class FieldTable {
  private readonly byLength: (readonly KnownField[] | undefined)[];

  /** @param keepHeaders lower-case names */
  constructor(keepHeaders: ReadonlySet<string>) {
    const framing = new Map(FRAMING_FIELDS);
    const names = new Set([...framing.keys(), ...keepHeaders]);
    const longest = Math.max(...[...names].map((name) => name.length));
    const byLength: KnownField[][] = Array.from({ length: longest + 1 }, () => []);
    for (const name of names) {
      byLength[name.length]!.push({
        name,
        codes: Uint8Array.from(Buffer.from(name, 'latin1')),
        keep: keepHeaders.has(name),
        framing: framing.get(name) ?? FRAMING_NONE,
      });
    }
    this.byLength = byLength.map((fields) => (fields.length === 0 ? undefined : fields));
  }

  /** The field whose name stands in bytes[start..end), in any case of letters; `undefined` when it is of no interest. */
  find(bytes: Buffer, start: number, end: number): KnownField | undefined {
    const length = end - start;
    if (length >= this.byLength.length) return undefined;
    const fields = this.byLength[length];
    if (fields === undefined) return undefined;
    for (let f = 0; f < fields.length; f++) {
      const codes = fields[f]!.codes;
      let i = 0;
      while (i < length && lower(bytes[start + i]!) === codes[i]) i++;
      if (i === length) return fields[f];
    }
    return undefined;
  }
}

function lower(code: number): number {
  return code >= 0x41 && code <= 0x5a ? code | 0x20 : code;
}
