/** A list of names in which `*` stands for any characters; the empty one holds nothing. */
export class Patterns {
  readonly #pattern: RegExp | undefined;

  constructor(texts: readonly string[]) {
    const alternatives = texts.map((text) => text.split('*').map(escaped).join('.*'));
    this.#pattern = texts.length === 0 ? undefined : new RegExp(`^(?:${alternatives.join('|')})$`, 's');
  }

  get isEmpty(): boolean {
    return this.#pattern === undefined;
  }

  has(name: string): boolean {
    return this.#pattern?.test(name) ?? false;
  }
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
