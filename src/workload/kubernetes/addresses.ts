/**
 * Whose an address is, and when: pods come and go, and an address that was one's is another's a moment later. A connection belongs to who
 * had its address when it began.
 *
 * What is known lags behind: of a pod's end one hears when it has happened, of its address when it uses it already. So an end is taken to be
 * at its earliest, and an address that comes into other hands is theirs from when one hears of it: in between it has no owner.
 */
interface Claim<Holder> {
  readonly holder: Holder;
  readonly fromMs: number;
  /** `lasting` while it does. */
  toMs: number;
  /** Its holder is known to have it no more; otherwise that may have been concluded from who came after it. */
  isReleased: boolean;
  /** The one that this one ended, as far as is known; while this one lasts. */
  former?: Claim<Holder> | undefined;
}

const lasting = Number.POSITIVE_INFINITY;
/** Times of the API server are cut to these. */
const SECOND_MS = 1000;

export class Addresses<Holder> {
  readonly #retainMs: number;
  readonly #limit: number;
  /** Mostly one for each address; otherwise the latest stands last. */
  readonly #claims = new Map<string, Claim<Holder>[]>();
  /** What has ended, in the order in which that became known. */
  readonly #ended: { address: string; claim: Claim<Holder>; knownMs: number }[] = [];
  #firstEnded = 0;

  /**
   * @param retainMs how long an address is known as that of who had it
   * @param limit how many such at most
   */
  constructor(retainMs: number, limit: number) {
    this.#retainMs = retainMs;
    this.#limit = limit;
  }

  /**
   * `holder` has this address now.
   * @param sinceMs before which it had not; `undefined`: not known
   * @param nowMs when that became known. All times are milliseconds since the Unix epoch
   */
  claim(address: string, holder: Holder, sinceMs: number | undefined, nowMs: number): void {
    const claims = this.#claims.get(address);
    if (claims === undefined) {
      this.#claims.set(address, [
        { holder, fromMs: sinceMs ?? Number.NEGATIVE_INFINITY, toMs: lasting, isReleased: false },
      ]);
      return;
    }
    const last = claims.at(-1)!;
    if (last.holder === holder && last.toMs === lasting) return;
    // Who had it has it no more, at the latest since the new one was being made ready.
    const former = last.toMs === lasting ? last : undefined;
    this.#claims.set(address, [...claims, { holder, fromMs: nowMs, toMs: lasting, isReleased: false, former }]);
    if (last.toMs === lasting) this.#end(address, last, Math.min(sinceMs ?? nowMs, nowMs), nowMs);
  }

  /**
   * `holder` has the address no more.
   * @param goneMs since when, at the earliest
   * @param nowMs when that became known
   */
  release(address: string, holder: Holder, goneMs: number, nowMs: number): void {
    for (const claim of this.#claims.get(address) ?? []) {
      if (claim.holder !== holder) continue;
      claim.isReleased = true;
      if (claim.toMs === lasting) this.#releaseLasting(address, claim, goneMs, nowMs);
      else claim.toMs = Math.min(claim.toMs, goneMs);
    }
  }

  /** @returns who had the address at this time, as far as that is certain */
  find(address: string, atMs: number): Holder | undefined {
    const claims = this.#claims.get(address);
    if (claims === undefined) return undefined;
    for (let i = claims.length - 1; i >= 0; i--) {
      const claim = claims[i]!;
      if (claim.fromMs <= atMs && atMs < claim.toMs) return claim.holder;
    }
    return undefined;
  }

  /** Forgets what ended long ago. */
  tick(nowMs: number): void {
    for (; this.#firstEnded < this.#ended.length; this.#firstEnded++) {
      const { address, claim, knownMs } = this.#ended[this.#firstEnded]!;
      if (this.#ended.length - this.#firstEnded <= this.#limit && knownMs + this.#retainMs > nowMs) break;
      const left = this.#claims.get(address)?.filter((each) => each !== claim) ?? [];
      if (left.length === 0) this.#claims.delete(address);
      else this.#claims.set(address, left);
    }
    if (this.#firstEnded > this.#ended.length / 2) {
      this.#ended.splice(0, this.#firstEnded);
      this.#firstEnded = 0;
    }
  }

  #releaseLasting(address: string, claim: Claim<Holder>, goneMs: number, nowMs: number): void {
    const { former, fromMs } = claim;
    // It was heard of too late: who was taken to have lost the address to it came after it, and has it still.
    if (former?.isReleased === false && goneMs < fromMs) {
      const againMs = Math.max(former.fromMs, goneMs + SECOND_MS);
      const again = { holder: former.holder, fromMs: againMs, toMs: lasting, isReleased: false };
      this.#claims.set(address, [...this.#claims.get(address)!, again]);
    }
    this.#end(address, claim, goneMs, nowMs);
  }

  #end(address: string, claim: Claim<Holder>, goneMs: number, nowMs: number): void {
    claim.toMs = goneMs;
    claim.former = undefined;
    this.#ended.push({ address, claim, knownMs: nowMs });
    this.tick(nowMs);
  }
}
