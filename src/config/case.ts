/** `poll_ms` -> `pollMs`, and back: the configuration file's names and the program's. */
export type CamelCase<Name> = Name extends `${infer Head}_${infer Rest}`
  ? `${Head}${Capitalize<CamelCase<Rest>>}`
  : Name;

type Upper = 'A' | 'B' | 'C' | 'D' | 'E' | 'F' | 'G' | 'H' | 'I' | 'J' | 'K' | 'L' | 'M' | Upper2;
type Upper2 = 'N' | 'O' | 'P' | 'Q' | 'R' | 'S' | 'T' | 'U' | 'V' | 'W' | 'X' | 'Y' | 'Z';

export type SnakeCase<Name, Done extends string = ''> = Name extends `${infer Letter}${infer Rest}`
  ? SnakeCase<Rest, `${Done}${Letter extends Upper ? `_${Lowercase<Letter>}` : Letter}`>
  : Done;

/** The same object with its keys, and those of the objects and lists of objects in it, in camel case. */
export type CamelCased<T> = T extends readonly unknown[]
  ? T extends readonly (infer Entry extends Readonly<Record<string, unknown>>)[]
    ? CamelCased<Entry>[]
    : T
  : T extends object
    ? { [Key in keyof T as CamelCase<Key>]: CamelCased<T[Key]> }
    : T;

export function camelKey(key: string): string {
  return key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

export function snakeKey(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
