/** What has to have been let go. */
const FALLEN_BYTES = 32 * 1024 * 1024;
/** No more than this may be held again since: another burst may be on its way. */
const QUIET_MS = 2000;
/** A full collection stops everything for a moment. */
const LEAST_MS = 10_000;

/**
 * When memory is worth giving back to the system. V8 collects as it allocates, and keeps what it has: after a burst, or an attack, a quiet agent would
 * stay as large as it was. Reads no clock.
 */
export class ReleasePolicy {
  private highBytes = 0;
  private lowBytes = 0;
  private lowMs = 0;
  private releasedMs = Number.NEGATIVE_INFINITY;

  /**
   * To be asked several times a second.
   *
   * @param heldBytes what the memory budget holds, @param peakBytes the most that it held since the last call
   */
  isDue(heldBytes: number, peakBytes: number, nowMs: number): boolean {
    this.highBytes = Math.max(this.highBytes, peakBytes, heldBytes);
    if (heldBytes > this.lowBytes + FALLEN_BYTES / 8 || this.highBytes - heldBytes < FALLEN_BYTES) {
      this.lowBytes = heldBytes;
      this.lowMs = nowMs;
      return false;
    }
    this.lowBytes = Math.min(this.lowBytes, heldBytes);
    if (nowMs - this.lowMs < QUIET_MS || nowMs - this.releasedMs < LEAST_MS) return false;
    this.releasedMs = nowMs;
    this.highBytes = heldBytes;
    return true;
  }
}
