import { readerLimits } from '../config/limits.ts';

/** A bucket of milliseconds that fills with time. It may be overdrawn: what is bought is known only afterwards. */
class Bucket {
  #ms: number;
  #atMs: number;
  readonly #perSecond: number;
  readonly #burstMs: number;

  constructor(perSecond: number, burstMs: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#burstMs = burstMs;
    this.#ms = burstMs;
    this.#atMs = nowMs;
  }

  left(nowMs: number): number {
    this.#ms = Math.min(this.#burstMs, this.#ms + (Math.max(0, nowMs - this.#atMs) * this.#perSecond) / 1000);
    this.#atMs = nowMs;
    return this.#ms;
  }

  take(ms: number, nowMs: number): void {
    this.left(nowMs);
    this.#ms -= ms;
  }
}

/**
 * How much work the files of a process, and of all processes of a container, may make: milliseconds, since what bytes cost depends on where they
 * lie. A process that has made too much waits; others do not.
 */
export class WorkBudget {
  readonly #now: () => number;
  readonly #processes = new Map<number, Bucket>();
  readonly #containers = new Map<string, Bucket>();
  readonly #reads = new Map<string, Bucket>();

  /** @param now milliseconds, of any origin */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Whose share is used up. */
  exhausted(pid: number, container: string): 'process' | 'container' | undefined {
    const now = this.#now();
    if ((this.#processes.get(pid)?.left(now) ?? 1) <= 0) return 'process';
    return (this.#containers.get(container)?.left(now) ?? 1) <= 0 ? 'container' : undefined;
  }

  charge(pid: number, container: string, ms: number): void {
    const now = this.#now();
    const { processMsPerSecond, processBurstMs, containerMsPerSecond, containerBurstMs } = readerLimits;
    bucketOf(this.#processes, pid, processMsPerSecond, processBurstMs, now).take(ms, now);
    bucketOf(this.#containers, container, containerMsPerSecond, containerBurstMs, now).take(ms, now);
  }

  /** One more look at a process of the container. @returns false when it has had its share of looks */
  takeRead(container: string): boolean {
    const now = this.#now();
    const perSecond = readerLimits.containerReadsPerSecond;
    const bucket = bucketOf(this.#reads, container, perSecond, perSecond, now);
    if (bucket.left(now) < 1) return false;
    bucket.take(1, now);
    return true;
  }
}

/** The one that was used least recently makes room; it begins with its burst again. */
function bucketOf<Key>(buckets: Map<Key, Bucket>, key: Key, perSecond: number, burst: number, nowMs: number): Bucket {
  const known = buckets.get(key);
  if (known !== undefined) {
    buckets.delete(key);
    buckets.set(key, known);
    return known;
  }
  const oldest = buckets.size >= readerLimits.budgets ? buckets.keys().next().value : undefined;
  if (oldest !== undefined) buckets.delete(oldest);
  const bucket = new Bucket(perSecond, burst, nowMs);
  buckets.set(key, bucket);
  return bucket;
}
