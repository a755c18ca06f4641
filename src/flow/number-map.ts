/** Places at first; a power of two. */
const PLACES = 64;
/** No key of a socket: a free place. */
const FREE = -1;

/**
 * A map from numbers that are not negative, such as socket cookies, where entries come and go all the time. See TupleTable for why that is no
 * Map. Open addressing, linear probing; an entry that goes draws up those behind it, so there are no marks of what was deleted.
 */
export class NumberMap<V> {
  size = 0;
  private keys: number[] = new Array(PLACES).fill(FREE);
  private values: (V | undefined)[] = new Array(PLACES).fill(undefined);

  get(key: number): V | undefined {
    return this.values[this.find(key)];
  }

  set(key: number, value: V): void {
    let at = this.find(key);
    if (this.keys[at] === FREE) {
      if (2 * this.size >= this.keys.length) {
        this.grow();
        at = this.find(key);
      }
      this.keys[at] = key;
      this.size++;
    }
    this.values[at] = value;
  }

  delete(key: number): void {
    let hole = this.find(key);
    if (this.keys[hole] === FREE) return;
    const mask = this.keys.length - 1;
    for (let at = (hole + 1) & mask; this.keys[at] !== FREE; at = (at + 1) & mask) {
      // What may stand in the hole: whose way from its own place leads over it.
      const own = placeOf(this.keys[at]!, mask);
      if (((at - own) & mask) < ((at - hole) & mask)) continue;
      this.keys[hole] = this.keys[at]!;
      this.values[hole] = this.values[at];
      hole = at;
    }
    this.keys[hole] = FREE;
    this.values[hole] = undefined;
    this.size--;
  }

  clear(): void {
    this.size = 0;
    this.keys.fill(FREE);
    this.values.fill(undefined);
  }

  /** The place of the key, or the free one where it would stand. */
  private find(key: number): number {
    const mask = this.keys.length - 1;
    let at = placeOf(key, mask);
    while (this.keys[at] !== key && this.keys[at] !== FREE) at = (at + 1) & mask;
    return at;
  }

  private grow(): void {
    const { keys, values } = this;
    this.keys = new Array(2 * keys.length).fill(FREE);
    this.values = new Array(2 * keys.length).fill(undefined);
    for (const [i, key] of keys.entries()) {
      if (key === FREE) continue;
      const at = this.find(key);
      this.keys[at] = key;
      this.values[at] = values[i];
    }
  }
}

/** Socket cookies are counted up, in blocks by processor: neighbours stand apart. */
function placeOf(key: number, mask: number): number {
  return (Math.imul(key | 0, 0x9e37_79b1) >>> 8) & mask;
}
