import type { Resource } from './resource.ts';
import { KEEP_ALL, Threshold } from './threshold.ts';

const US_PER_SECOND = 1_000_000;
/** Shares are m/16 * 2^-shift with m from 8 to 15: few different ones, at most an eighth below the wanted share, with short thresholds. */
const STEPS = 8;
const MAX_SHIFT = 48;

/** What a service has had to offer in one second, and in the one before. */
class Rate {
  second = -1;
  now = 0;
  before = 0;
}

/**
 * Limits the spans per second of each service by raising the rejection threshold, so that a backend can still tell how many there were: a
 * service that offers n spans in a second, or offered them in the last one, keeps a share of limit / n. That follows from how many there were
 * and not from which of them were kept, hence no span is more likely to be kept than its threshold says. In the second in which the rate
 * grows k-fold there are up to 1 + ln k times as many as the limit.
 */
export class RateLimit {
  private readonly spansPerSecond: number;
  private readonly maxServices: number;
  private readonly onEviction: () => void;
  /** By namespace and name; and for resources that were seen, so that no name is put together again. */
  private readonly rates = new Map<string, Rate>();
  private readonly known = new WeakMap<Resource, Rate>();
  private readonly shares: Threshold[] = [];

  constructor(spansPerSecond: number, maxServices: number, onEviction: () => void) {
    this.spansPerSecond = spansPerSecond;
    this.maxServices = maxServices;
    this.onEviction = onEviction;
  }

  /** Counts one span that the service offers. */
  thresholdOf(resource: Resource, timeUs: number): Threshold {
    const rate = this.known.get(resource) ?? this.rateOf(resource);
    const second = Math.floor(timeUs / US_PER_SECOND);
    // What ended in an earlier second and comes late counts now.
    if (second > rate.second) {
      rate.before = second === rate.second + 1 ? rate.now : 0;
      rate.second = second;
      rate.now = 0;
    }
    rate.now++;
    const expected = Math.max(rate.before, rate.now);
    return expected <= this.spansPerSecond ? KEEP_ALL : this.share(this.spansPerSecond / expected);
  }

  private rateOf(resource: Resource): Rate {
    const name = `${String(resource.attributes['service.namespace'] ?? '')}/${resource.name}`;
    let rate = this.rates.get(name);
    if (rate === undefined) {
      if (this.rates.size >= this.maxServices) {
        for (const oldest of this.rates.keys()) {
          this.rates.delete(oldest);
          break;
        }
        this.onEviction();
      }
      rate = new Rate();
      this.rates.set(name, rate);
    }
    this.known.set(resource, rate);
    return rate;
  }

  private share(probability: number): Threshold {
    let scaled = probability * 16;
    let shift = 0;
    for (; scaled < STEPS && shift < MAX_SHIFT; shift++) scaled *= 2;
    const step = Math.max(1, Math.floor(scaled));
    const index = shift * STEPS + step;
    this.shares[index] ??= new Threshold((1n << 56n) - (BigInt(step) << BigInt(52 - shift)));
    return this.shares[index];
  }
}
