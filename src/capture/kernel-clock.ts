import type { Clock } from '../telemetry/clock.ts';
import { native } from './native.ts';

/** How often the offset between the two clocks is read at most, in event time. */
const REFRESH_US = 1_000_000;

/**
 * Converts the kernel's time of events (CLOCK_BOOTTIME) to wall time. The offset is read again when events have moved on by a second: so
 * the times of spans follow the wall clock's steps and its slewing, and do not drift over days.
 */
export class KernelClock implements Clock {
  private readonly readOffsetUs: () => number;
  private offsetUs = 0;
  private refreshAtUs = Number.NEGATIVE_INFINITY;

  /** @param readOffsetUs microseconds to add to CLOCK_BOOTTIME for CLOCK_REALTIME */
  constructor(readOffsetUs: () => number = native<{ clockOffsetUs(): number }>().clockOffsetUs) {
    this.readOffsetUs = readOffsetUs;
  }

  unixUs(timeUs: number): number {
    if (timeUs >= this.refreshAtUs) {
      this.offsetUs = this.readOffsetUs();
      this.refreshAtUs = timeUs + REFRESH_US;
    }
    return timeUs + this.offsetUs;
  }

  /** @returns the time of events, now, to a millisecond */
  nowUs(): number {
    return Date.now() * 1000 - this.readOffsetUs();
  }
}
