/** Which source of packets a configuration asks for: the one place that names them. */
import { checkCgroup, findCgroupRoot } from './capture/cgroup.ts';
import { LiveCapture } from './capture/live.ts';
import type { CaptureSource } from './capture/source.ts';
import type { Config } from './config/schema.ts';

export type OpenSource = (config: Config) => CaptureSource;

/** @throws Error for people */
export const openSource: OpenSource = ({ capture }) =>
  LiveCapture.open({
    cgroupPath: capture.cgroup === undefined ? findCgroupRoot() : checkCgroup(capture.cgroup),
    packetRingBytes: capture.ringMib * 1024 * 1024,
    excludedPorts: capture.excludePorts,
    pollMs: capture.pollMs,
  });
