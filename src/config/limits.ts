/**
 * Every cap of the core. Those of a protocol are in its `limits.ts`; config/schema.ts joins both. What passes a cap is counted under a
 * reason, never lost silently. Names end in their unit.
 */
export interface Limits {
  /**
   * What everything that grows with its input may cost together, in MiB (memory/budget.ts): then the largest holder is given up. 0: a
   * quarter of what the process may have.
   */
  memoryMib: number;
  /** Connections tracked at once; the one idle for longest makes room. */
  connections: number;
  /** Out-of-order bytes held per direction before the hole is given up as a gap. */
  reassemblyBytesPerDirection: number;
  /** Out-of-order bytes held by all connections together. */
  reassemblyBytes: number;
  /** Out-of-order pieces held per direction, however small. */
  reassemblyPiecesPerDirection: number;
  /** Fragments of IP packets, in capture files, that wait for the others of their packet: bytes in all, and how long. */
  ipFragmentBytes: number;
  ipFragmentUs: number;
  /** A hole in the stream is given up after this time. */
  reassemblyHoleUs: number;
  /** The same of one that the receiver has, too, as its acknowledgements say: what is in it must be sent again. */
  reassemblyRetransmitUs: number;
  /**
   * A capture file may have an acknowledgement before the data that it speaks of: it waits so long for them; so many packets and bytes of one
   * connection do.
   */
  reassemblyReorderUs: number;
  reassemblyReorderPackets: number;
  reassemblyReorderBytes: number;
  /** A reset that the receiver may have refused counts when so long nothing follows. */
  resetDoubtUs: number;
  /** Bytes that a segment may lie ahead of what was seen last, or behind it, and still belong to the stream. */
  reassemblyWindowBytes: number;
  /**
   * A connection without packets is forgotten after this time. Long: pools keep connections for many hours, and what is inside TLS cannot
   * be read again once its keys are gone.
   */
  idleUs: number;
  /** The same for one that has carried no data yet. */
  unusedUs: number;
  /** A connection that its client, or its server, has closed for its part ends after this time without packets. */
  clientClosedUs: number;
  serverClosedUs: number;
  /** A closed connection is remembered for this time, so that late copies of its packets do not look like a new one; and how many. */
  lingerUs: number;
  lingeringConnections: number;
  /** Records that wait for a TLS secret: per connection, in all, and for how long. */
  tlsPendingBytesPerConnection: number;
  tlsPendingBytes: number;
  tlsPendingUs: number;
  /** Bytes of one TLS handshake message (RFC 8446 allows 2^24 - 1; certificates stay far below this). */
  tlsHandshakeMessageBytes: number;
  /** Record numbers tried after a gap. */
  tlsGapTrials: number;
  /** Bytes buffered per direction while the protocol is not known. */
  detectionBytes: number;
  /** Messages looked at, of a connection whose start was not seen, before its protocol counts as unknown. */
  detectionTries: number;
  /** Headers of the PROXY protocol in a row; what follows is read as it is. */
  proxyHeaders: number;
  /** Secrets kept for connections that were not seen yet, and for how long. */
  secrets: number;
  secretUs: number;
  /** The packet file: its packets wait so long to be put in the order of time. */
  pcapngReorderUs: number;
  /** Packets of a connection that lacks its secret wait so long for it, and so many bytes of them in all; as many again wait for their order. */
  pcapngPendingUs: number;
  pcapngPendingBytes: number;
  /** Bytes of the packet file that wait for the disk. */
  pcapngQueueBytes: number;
  /** Services whose rate is known at once; the oldest makes room. */
  sampledServices: number;
  /** Processes that are known to export telemetry of their own; the oldest makes room. */
  instrumentedProcesses: number;
  /** Services whose routes are learned, path segments of each, and different ones at one place of a path. */
  learnedServices: number;
  learnedSegments: number;
  learnedSegmentsPerPlace: number;
  /** Processes whose identity is remembered; the one heard of least recently makes room. */
  workloadProcesses: number;
  /** Sockets whose owner is remembered; the oldest makes room. */
  workloadSockets: number;
  /** Exchanges that wait until the containers of their ends are known. */
  waitingExchanges: number;
  /** Objects of one kind of a Kubernetes cluster; what comes beyond is not known. */
  kubernetesObjects: number;
  /** Pods that are gone: how many are remembered, and for how long. */
  kubernetesDeparted: number;
  kubernetesDepartedUs: number;
  /** Owners of pods whose own owners are remembered; the oldest makes room. */
  kubernetesOwners: number;
  /** Series of the durations of exchanges, in all; and how long one that does not grow is exposed. */
  metricSeries: number;
  metricIdleUs: number;
  /** Files looked into for TLS libraries, those of them that are probed, and processes whose files are known. */
  probeFiles: number;
  probeAttachments: number;
  probeProcesses: number;
  /** New processes that wait to be looked at again, and looks at processes per second. */
  probeQueue: number;
  probeReadsPerSecond: number;
}

export const defaultLimits: Limits = {
  memoryMib: 0,
  connections: 65_536,
  reassemblyBytesPerDirection: 4 * 1024 * 1024,
  reassemblyBytes: 64 * 1024 * 1024,
  reassemblyPiecesPerDirection: 4096,
  ipFragmentBytes: 4 * 1024 * 1024,
  ipFragmentUs: 30_000_000,
  reassemblyHoleUs: 2_000_000,
  reassemblyRetransmitUs: 60_000_000,
  reassemblyReorderUs: 10_000,
  reassemblyReorderPackets: 64,
  reassemblyReorderBytes: 256 * 1024,
  resetDoubtUs: 2_000_000,
  reassemblyWindowBytes: 64 * 1024 * 1024,
  idleUs: 86_400_000_000,
  unusedUs: 3_600_000_000,
  clientClosedUs: 300_000_000,
  serverClosedUs: 10_000_000,
  lingerUs: 5_000_000,
  lingeringConnections: 8192,
  tlsPendingBytesPerConnection: 1024 * 1024,
  tlsPendingBytes: 32 * 1024 * 1024,
  tlsPendingUs: 5_000_000,
  tlsHandshakeMessageBytes: 1024 * 1024,
  tlsGapTrials: 16_384,
  detectionBytes: 4096,
  detectionTries: 64,
  proxyHeaders: 4,
  secrets: 16_384,
  secretUs: 60_000_000,
  pcapngReorderUs: 10_000,
  pcapngPendingUs: 6_000_000,
  pcapngPendingBytes: 64 * 1024 * 1024,
  pcapngQueueBytes: 64 * 1024 * 1024,
  sampledServices: 4096,
  instrumentedProcesses: 4096,
  learnedServices: 256,
  learnedSegments: 1024,
  learnedSegmentsPerPlace: 100,
  workloadProcesses: 16_384,
  workloadSockets: 262_144,
  waitingExchanges: 16_384,
  kubernetesObjects: 250_000,
  kubernetesDeparted: 8192,
  kubernetesDepartedUs: 300_000_000,
  kubernetesOwners: 16_384,
  metricSeries: 4000,
  metricIdleUs: 3_600_000_000,
  probeFiles: 16_384,
  probeAttachments: 1024,
  probeProcesses: 65_536,
  probeQueue: 16_384,
  probeReadsPerSecond: 1000,
};

/** Caps of the live capture: how much the kernel holds for a reader that is late, and how much the reader holds for the pipeline. */
export const captureLimits = {
  /** The kernel's packet ring. What does not fit is counted as packet_ring_full. */
  packetRingBytes: 32 * 1024 * 1024,
  /** Chunks that hold records for the pipeline: size, at least twice the largest record, and number. */
  chunkBytes: 256 * 1024,
  chunks: 32,
  /** How often the rings are read while there is traffic. */
  pollMs: 3,
} as const;

/**
 * Caps of what is read about processes: their files in /proc, and what lies below their root folders. The user of a process decides how long these
 * are. A cap that is passed is counted under its name in the statistics (`reader`).
 */
export const readerLimits = {
  /** /proc/PID/stat, cgroup. */
  smallFileBytes: 64 * 1024,
  /** ARG_MAX allows megabytes; what names the program stands at the front. */
  commandLineBytes: 64 * 1024,
  /** Kubernetes gives a container some hundred bytes for each Service of its namespace. And the longest value that is of interest. */
  environmentBytes: 4 * 1024 * 1024,
  environmentValueBytes: 64 * 1024,
  /** A process has at most vm.max_map_count mappings, 65,530 unless that was raised; a line holds a path. They take some 50 ms to read. */
  mapsBytes: 32 * 1024 * 1024,
  mapsLineBytes: 8192,
  mapsMs: 1000,
  /** The same while the container of the process has used up its share of work. */
  mapsBytesHurried: 1024 * 1024,
  /** Files mapped as code that are looked into, of one process. */
  mappedFiles: 2048,
  /** Each file of ld.so.conf, how many of them, and the library folders of one file system. */
  loaderConfigurationBytes: 64 * 1024,
  loaderConfigurationFiles: 64,
  libraryFolders: 64,
  /** Entries of a folder that are looked at, and libraries in it that are looked into. */
  folderEntries: 65_536,
  librariesPerFolder: 64,
  /** Of one ELF file: bytes and milliseconds for its symbols. Twice what Node needs when it carries all its symbols. */
  elf: { bytes: 256 * 1024 * 1024, ms: 500 },
  /** The same while its container has used up its share of work: enough for a library, and a program without symbols. */
  elfHurried: { bytes: 1024 * 1024, ms: 20 },
  /** Bytes of an executable that are looked through for the names of libraries and versions. */
  stringSearchBytes: 128 * 1024 * 1024,
  /** Milliseconds of work per second for one process and for all of a container, and what they may have saved up. */
  processMsPerSecond: 50,
  processBurstMs: 500,
  containerMsPerSecond: 150,
  containerBurstMs: 1500,
  /** Processes and containers whose use is remembered. */
  budgets: 16_384,
  /** Milliseconds of one look at a process, before others have their turn. */
  lookMs: 20,
  /** Of a container: looks at processes per second, and probed files. */
  containerReadsPerSecond: 400,
  containerAttachments: 128,
  /** How long the main thread waits for what is known of a process, and how much of each second it may spend with that. */
  answerMs: 100,
  waitMsPerSecond: 200,
  /** A reader that has been at one thing for this long hangs: another takes its place, and the thing is left alone. So many may hang at once. */
  stalledMs: 2500,
  stalledReaders: 4,
  /** Questions and events that wait for the reader. */
  waitingQuestions: 4096,
  /** Heap of the reader's thread. */
  heapMb: 96,
} as const;

/** Caps of the feed of exchanges (export/feed.ts): what readers cost the pipeline. What passes one is counted in the statistics (`feed`). */
export const feedLimits = {
  readers: 8,
  /** Views made per second for all readers. */
  exchangesPerSecond: 2000,
} as const;

/**
 * Caps of the agent's HTTP service (service/server.ts). Each kind of route has a budget of its own, so that probes are answered whatever is
 * asked besides. What a reader of a stream does not take is counted as `feed.slow_reader`; others see it in the status of their response.
 */
export const serviceLimits = {
  /** Connections that have not asked yet or that ask for probes, and connections that ask for anything else. Beyond it the oldest of an address with many goes. */
  connections: 64,
  /** The same where they have come within the last second. */
  youngConnections: 1024,
  /** Of a request: its line and its fields. */
  headBytes: 16 * 1024,
  /** Answers that cost much: how many are made per second, how many are under way at once, and how many last ones are kept. */
  costlyPerSecond: 4,
  costlyAtOnce: 8,
  costlyKept: 4,
} as const;

/** Caps of answers that go on. */
export const streamLimits = {
  /** Open at once: as many as the feed has readers. */
  streams: feedLimits.readers,
  /** Bytes that wait for one reader. */
  queueBytes: 1024 * 1024,
  /** A reader that takes nothing for this long is let go. */
  stalledMs: 30_000,
  /** What waits at the end is written for so long. */
  lingerMs: 500,
} as const;

export function assertLimits(limits: Limits): void {
  const holds: [boolean, string][] = [
    [limits.reassemblyBytesPerDirection <= limits.reassemblyBytes, 'reassemblyBytesPerDirection <= reassemblyBytes'],
    [
      limits.reassemblyBytesPerDirection <= limits.reassemblyWindowBytes,
      'reassemblyBytesPerDirection <= reassemblyWindowBytes',
    ],
    [limits.reassemblyWindowBytes <= 2 ** 30, 'reassemblyWindowBytes <= 2^30'],
    [limits.lingeringConnections <= limits.connections, 'lingeringConnections <= connections'],
    [limits.tlsPendingBytesPerConnection <= limits.tlsPendingBytes, 'tlsPendingBytesPerConnection <= tlsPendingBytes'],
    [limits.tlsPendingUs <= limits.secretUs, 'tlsPendingUs <= secretUs'],
    [limits.tlsPendingUs <= limits.pcapngPendingUs, 'tlsPendingUs <= pcapngPendingUs'],
    [limits.learnedSegmentsPerPlace < limits.learnedSegments, 'learnedSegmentsPerPlace < learnedSegments'],
    [limits.connections <= limits.workloadSockets, 'connections <= workloadSockets'],
  ];
  for (const [ok, relation] of holds) if (!ok) throw new Error(`limits: ${relation} does not hold`);
}
