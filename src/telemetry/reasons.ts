/**
 * Every reason word of the statistics and metrics: meaning, and what to do. The page docs/reference/reasons.md is printed from this table, and
 * a test compares both with the words that the code counts.
 */
import { RAISE_LIMIT, type Reason, type ReasonTable } from '../config/define.ts';
import { feedReasons } from './feed-reasons.ts';

export type { Reason, ReasonTable };

const MORE_CPU =
  'Give the agent more CPU time, watch less (`capture.exclude_ports`, Kubernetes selection), or enlarge `capture.ring_mib` for bursts.';
const REPORT = 'This is a defect. Please report it with the log.';
const MEMORY =
  'Look for the service behind it. Raise `limits.memory_mib`, and the memory limit of the container with it.';

const REASONS: readonly ReasonTable[] = [
  {
    key: 'packets.lost',
    title: 'Lost between kernel and agent',
    reasons: {
      packet_ring_full: { meaning: 'The ring buffer for packets was full.', action: MORE_CPU },
      control_ring_full: {
        meaning: 'The ring buffer for sockets and processes was full. Owners of connections may be unknown.',
        action: MORE_CPU,
      },
      load_bytes_failed: { meaning: 'The kernel could not copy the bytes of a packet.', action: REPORT },
      headers_unreadable: { meaning: 'The headers of a packet could not be read in the kernel.' },
      packet_too_large: { meaning: 'A packet was larger than the largest record.', action: REPORT },
      record_malformed: { meaning: 'A record of a ring contradicts its own length.', action: REPORT },
      secret_ring_full: { meaning: 'The ring buffer for TLS secrets was full.', action: MORE_CPU },
      params_unreadable: { meaning: 'A probe could not read which secret is derived. It may have been a wanted one.' },
      values_unreadable: { meaning: 'A probe could not read a TLS secret.' },
      unexpected_values: { meaning: 'A TLS secret has a size that no cipher suite has.', action: REPORT },
      socket_storage_failed: {
        meaning: 'The kernel had no memory for what belongs to a socket. Its owner may be unknown.',
      },
    },
  },
  {
    key: 'packets.ignored',
    title: 'Packets that hold no TCP segment of a connection',
    reasons: {
      link_type: {
        meaning: 'The link type of the capture file is not read.',
        action: 'See docs/reference/capture-files.md.',
      },
      not_ip: { meaning: 'The frame holds neither IPv4 nor IPv6.' },
      not_tcp: { meaning: 'The packet holds another protocol than TCP, and no tunnel that is read.' },
      ip_fragment: { meaning: 'An IP fragment whose packet never was complete.' },
      truncated_headers: {
        meaning: 'The capture ends inside the headers.',
        action: 'Capture with a larger snapshot length.',
      },
      malformed_ip: { meaning: 'The IP header contradicts itself.' },
      malformed_tcp: { meaning: 'The TCP header contradicts itself.' },
      too_many_extension_headers: {
        meaning: 'The IPv6 packet has more extension headers than any sender has use for.',
      },
      no_connection: {
        meaning: 'The packet belongs to no known connection and begins none, such as a reset from a closed port.',
      },
    },
  },
  {
    key: 'connections.ended',
    title: 'How TCP connections ended',
    reasons: {
      fin: { meaning: 'Both ends closed it in order.' },
      reset: { meaning: 'One end reset it.' },
      idle: { meaning: 'Nothing was seen for `limits.idle_us` or a shorter time that applies.' },
      unreadable: { meaning: 'What follows cannot be read: records that do not open, or an error of the agent.' },
      evicted: { meaning: 'Its place was needed for another connection.', action: 'Raise `limits.connections`.' },
      reused: { meaning: 'The same addresses and ports began a new connection.' },
      shutdown: { meaning: 'The agent stopped.' },
      memory: { meaning: 'The memory budget was full, and this connection held the most.', action: MEMORY },
    },
  },
  {
    key: 'connections.unrecognised',
    title: 'Byte streams of no protocol that is read',
    reasons: {
      no_match: { meaning: 'No protocol that is read begins with these bytes.' },
      ambiguous: { meaning: 'More than one protocol could begin with these bytes.' },
      limit: { meaning: 'The protocol was not certain within `limits.detection_bytes`.' },
      start_not_seen: {
        meaning: 'The connection is older than the agent, and no message began where its segments begin.',
        action: 'Open the connection again.',
      },
      closed: { meaning: 'The connection ended before its protocol was certain.' },
      alert_alone: {
        meaning: 'Only a TLS alert of one end was seen, as when a health probe connects to a TLS port and leaves.',
      },
      proxy_version: { meaning: 'A PROXY header of an unknown version.' },
      proxy_malformed: { meaning: 'A PROXY header whose line or addresses are malformed.' },
      memory: { meaning: 'The memory budget was full, and this connection held the most.', action: MEMORY },
    },
  },
  {
    key: 'connections.givenUp',
    title: 'Connections that the agent gave up',
    reasons: {
      memory: { meaning: 'The memory budget was full, and this connection held the most.', action: MEMORY },
      pipeline_limit: {
        meaning: 'More requests waited for their responses than the protocol’s limit of pipelined requests.',
        action: RAISE_LIMIT,
      },
      protocol_error: { meaning: 'Too many of its messages could not be parsed.' },
      limit: { meaning: 'A limit of the agent was reached.', action: RAISE_LIMIT },
      gap: { meaning: 'What was lost cannot be made up for: what follows is read with it.', action: MORE_CPU },
      internal_error: { meaning: 'An error of the agent ended its work on this connection.', action: REPORT },
    },
  },
  {
    key: 'memory',
    title: 'Given up because the memory budget was full, by what held the most',
    reasons: {
      connection: { meaning: 'A connection, with its pending requests.', action: MEMORY },
      sql_texts: { meaning: 'The remembered texts of statements. They are read again.', action: MEMORY },
      routes: { meaning: 'The learned routes of services. They are learned again.', action: MEMORY },
      waiting_exchanges: {
        meaning: 'Exchanges that waited for the names of their pods. They left with what was known.',
        action: MEMORY,
      },
    },
  },
  {
    key: 'connections.undecryptable',
    title: 'TLS connections that could not be read, or not to the end',
    reasons: {
      opened_before_agent: {
        meaning: 'The connection is older than the agent: its secret was made before.',
        action: 'Open the connection again, for example by restarting the application or its connection pool.',
      },
      no_probe: {
        meaning: 'A process of the connection uses a TLS library that is not read. The library follows the colon.',
        action: 'Use `--keylog` where the program can write a key log.',
      },
      no_secret: {
        meaning: 'No secret came within `limits.tls_pending_us` and the bytes that may wait.',
        action: 'Look at `secrets` and `packets.lost`, and run `wirespan doctor`.',
      },
      secret_too_late: { meaning: 'The secret came after the connection was given up.', action: MORE_CPU },
      unsupported_cipher_suite: { meaning: 'The cipher suite is not read.', action: 'See docs/concepts/tls.md.' },
      unsupported_version: { meaning: 'The TLS version is older than 1.2.', action: 'Configure TLS 1.2 or 1.3.' },
      unsupported_compression: { meaning: 'TLS compression, which TLS 1.3 removed.' },
      record_authentication_failed: {
        meaning: 'A record did not fit the key: bytes were changed, lost or belong to another connection.',
      },
      record_malformed: { meaning: 'A TLS record is malformed.' },
      handshake_malformed: { meaning: 'The handshake is malformed.' },
      handshake_refused: {
        meaning: 'One end refused the handshake with an alert.',
        action: 'Look at both ends: no common version or cipher suite, or no trust in a certificate.',
      },
      closed_in_handshake: { meaning: 'The connection ended before anything encrypted could be read.' },
      shutdown: { meaning: 'The agent stopped during the handshake.' },
      gap_in_handshake: { meaning: 'Bytes of the handshake were lost.', action: MORE_CPU },
      gap_unrecoverable: {
        meaning: 'More records were lost than `limits.tls_gap_trials` can pass over.',
        action: MORE_CPU,
      },
      pending_limit: {
        meaning: 'Connections that wait for their secrets held more than `limits.tls_pending_bytes`.',
        action: RAISE_LIMIT,
      },
      memory: { meaning: 'The memory budget was full, and this connection held the most.', action: MEMORY },
      internal_error: { meaning: 'An error of the agent.', action: REPORT },
    },
  },
  {
    key: 'secrets',
    title: 'TLS secrets, by what became of them',
    reasons: {
      received: { meaning: 'A secret arrived.' },
      evicted: { meaning: 'It made room for a newer one before a connection asked for it.', action: RAISE_LIMIT },
      expired: { meaning: 'No connection asked for it within `limits.secret_us`.' },
      malformed: { meaning: 'Its size is none of TLS.', action: REPORT },
      key_log_line_malformed: { meaning: 'A line of the key log is malformed.' },
      key_log_line_unsupported: { meaning: 'A line of the key log has a label that is not used.' },
      key_log_limit: { meaning: 'The key log held more secrets than are kept.', action: RAISE_LIMIT },
    },
  },
  {
    key: 'reassembly',
    title: 'TCP reassembly',
    reasons: {
      retransmission: { meaning: 'A segment whose bytes were seen before.' },
      partial_retransmission: { meaning: 'A segment of which a part was seen before.' },
      keep_alive: { meaning: 'A keep-alive probe.' },
      out_of_order: { meaning: 'A segment that came before its predecessor.' },
      overlap: { meaning: 'Segments that overlap.' },
      overlap_differs: { meaning: 'Segments that overlap with different bytes. The first bytes count.' },
      gap: { meaning: 'Bytes that were never seen.', action: 'Look at `packets.lost`.' },
      gap_bytes: { meaning: 'The number of such bytes.' },
      not_captured: { meaning: 'The capture cut a packet.', action: 'Capture with a larger snapshot length.' },
      not_captured_bytes: { meaning: 'The number of such bytes.' },
      acked_unseen: {
        meaning: 'The receiver acknowledged bytes that were not captured.',
        action: 'Look at `packets.lost`.',
      },
      ack_before_data: { meaning: 'A capture in which an acknowledgement lies before its data. The data is used.' },
      ack_out_of_window: { meaning: 'An acknowledgement of bytes that cannot have been sent.' },
      hole_timeout: { meaning: 'A hole was given up after `limits.reassembly_hole_us`.' },
      held_bytes_limit: { meaning: 'One direction held more than `limits.reassembly_bytes_per_direction`.' },
      total_held_bytes_limit: { meaning: 'All connections together held more than `limits.reassembly_bytes`.' },
      beyond_window: { meaning: 'A segment that lies beyond the window that the receiver announced.' },
      out_of_window: { meaning: 'A segment that lies too far away to belong to the stream.' },
      resynchronized: { meaning: 'The stream went on at a far position: much was lost.' },
      after_fin: { meaning: 'Bytes after the end of the stream. They are ignored.' },
      after_close: { meaning: 'Bytes after the connection ended. They are ignored.' },
      bad_fin: { meaning: 'A FIN at an impossible place. It is ignored.' },
      bad_reset: { meaning: 'A reset that its receiver ignores (RFC 5961).' },
      reset_in_doubt: { meaning: 'A reset that its receiver answers with a challenge. The connection goes on.' },
      bad_syn_ack: { meaning: 'A SYN-ACK that answers no SYN.' },
      syn_in_connection: {
        meaning: 'A SYN within a connection, which its receiver answers with a challenge (RFC 5961).',
      },
    },
  },
  {
    key: 'incomplete',
    title: 'Exchanges that are not whole, and messages that made none',
    reasons: {
      connection_reset: { meaning: 'The connection was reset before the response was whole.' },
      connection_closed: { meaning: 'The connection was closed before the response was whole.' },
      stream_reset: { meaning: 'One end gave up this exchange, not its connection.' },
      timeout: { meaning: 'No response came within the time of the limits.' },
      gap: { meaning: 'Packets were lost.', action: 'Look at `packets.lost`.' },
      shutdown: { meaning: 'The agent stopped.' },
      limit: { meaning: 'A limit of the agent was reached.', action: RAISE_LIMIT },
      memory: { meaning: 'The memory budget was full, and its connection held the most.', action: MEMORY },
      protocol_error: { meaning: 'The bytes in the response’s place are no response of the protocol.' },
      request_not_seen: { meaning: 'A response whose request was not seen.' },
      not_run: { meaning: 'A statement of a text that the server did not run, because of an error before it.' },
    },
  },
  {
    key: 'metrics',
    title: 'Durations of exchanges',
    reasons: {
      series_limit: {
        meaning: 'The series are too many: the value counts in the series for all of these.',
        action: 'Raise `limits.metric_series`.',
      },
      series_expired: { meaning: 'A series did not grow for `limits.metric_idle_us`.' },
      avoided_service: { meaning: 'The service exports metrics of its own (`services.avoid_instrumented`).' },
    },
  },
  {
    key: 'internalErrors',
    title: 'Errors of the agent, by what they cost',
    reasons: {
      chunk: { meaning: 'A chunk of records.', action: REPORT },
      packet: { meaning: 'A packet.', action: REPORT },
      socket: { meaning: 'The announcement of a socket.', action: REPORT },
      process: { meaning: 'The announcement of a process.', action: REPORT },
      secret: { meaning: 'A secret.', action: REPORT },
      connection: { meaning: 'A connection.', action: REPORT },
      exchange: { meaning: 'An exchange.', action: REPORT },
      tick: { meaning: 'A round of time-outs.', action: REPORT },
    },
  },
  {
    key: 'spans.leftOut',
    title: 'Spans that were deliberately not made',
    reasons: {
      unsampled: { meaning: 'By a decision on the wire, or by `sampling.ratio`.' },
      rate_limited: { meaning: 'By `sampling.spans_per_second`.' },
      filtered: { meaning: 'By `filters`.' },
      avoided_service: { meaning: 'The process makes spans of its own (`services.avoid_instrumented`).' },
      otlp_export: { meaning: 'Telemetry that another process sends over OTLP.' },
      ignored: { meaning: 'A statement that `sql.ignore` matches.' },
      below_min_duration: { meaning: 'A statement that took less than `sql.min_duration_us`.' },
      not_watched: { meaning: 'The end belongs to a pod that is not watched.' },
      given_up: {
        meaning: 'Requests that a limit or the memory budget ended: more at once than spans are made of.',
        action: MEMORY,
      },
      seen_by_client: { meaning: 'The agent at the client’s end makes the span of the statement.' },
    },
  },
  {
    key: 'spans.dropped',
    title: 'Spans that did not arrive',
    reasons: {
      queue_full: {
        meaning: 'The queue was full, and its oldest batch was dropped.',
        action: 'Look at the backend, raise `export.queue_mib`, or set `export.spool_folder`.',
      },
      rejected: { meaning: 'The backend took the request but not these spans.', action: 'Look at `spans.rejections`.' },
      export_failed: {
        meaning: 'The backend refused the request for good.',
        action: 'The log has the backend’s words and an advice.',
      },
      too_large: { meaning: 'A single span exceeded the size of a request.' },
      deadline: { meaning: 'The span was not delivered within `export.flush_deadline_ms` at shutdown.' },
      shutdown: { meaning: 'The span was made while the output was shutting down.' },
      spool_full: { meaning: 'The oldest spans of the spool made room.', action: 'Raise `export.spool_mib`.' },
      spool_failed: { meaning: 'The disk refused the spool’s write.', action: 'The log has the error.' },
      spool_damaged: { meaning: 'The spool’s content was not what had been written.' },
      output_full: { meaning: 'The file or pipe did not take lines fast enough.' },
      write_failed: { meaning: 'The file or pipe refused a write.', action: 'The log has the error.' },
      reader_gone: { meaning: 'The reader of the pipe has ended.' },
    },
  },
  feedReasons,
  {
    key: 'services',
    title: 'Services',
    reasons: {
      exports_traces: { meaning: 'A process exports spans of its own.' },
      exports_metrics: { meaning: 'A process exports metrics of its own.' },
      exports_logs: { meaning: 'A process exports logs of its own.' },
      exports_profiles: { meaning: 'A process exports profiles of its own.' },
      exports_forgotten: {
        meaning: 'Such a process was forgotten for another one.',
        action: 'Raise `limits.instrumented_processes`.',
      },
      rate_forgotten: {
        meaning: 'The rate of a service was forgotten for another one.',
        action: 'Raise `limits.sampled_services`.',
      },
      routes_services_limit: {
        meaning: 'The routes of a service are not learned.',
        action: 'Raise `limits.learned_services`.',
      },
      routes_segments_limit: { meaning: 'A path segment was not learned.', action: 'Raise `limits.learned_segments`.' },
    },
  },
];

/** Where files of processes are read: a table of its own, since `wirespan doctor` counts by it, too. */
export const READER_REASONS: ReasonTable = {
  key: 'wirespan.reader.events',
  title: 'Reading about processes',
  reasons: {
    maps_bytes_limit: { meaning: 'Memory maps longer than is read. What lies behind is not known.' },
    maps_time_limit: { meaning: 'Memory maps that take too long to read. What lies behind is not known.' },
    mapped_files_limit: { meaning: 'Processes that map more files as code than are looked into.' },
    environment_bytes_limit: { meaning: 'Environments longer than is read. Variables behind that are not known.' },
    command_line_bytes_limit: { meaning: 'Command lines longer than is read.' },
    cgroup_bytes_limit: { meaning: 'Lists of cgroups longer than is read.' },
    stat_bytes_limit: { meaning: 'Files of /proc longer than is read.' },
    elf_bytes_limit: { meaning: 'Programs or libraries with more symbols than are read.' },
    elf_time_limit: { meaning: 'Programs or libraries whose symbols take too long to read.' },
    loader_configuration_limit: { meaning: 'ld.so.conf files longer than is read.' },
    library_folders_limit: { meaning: 'More library folders than are looked at.' },
    libraries_per_folder_limit: { meaning: 'Folders with more libraries than are looked into.' },
    folder_entries_limit: { meaning: 'Folders with more entries than are looked at.' },
    not_a_regular_file: {
      meaning: 'Names of libraries that lead to a device, a pipe or a folder. They are not opened.',
    },
    process_budget: { meaning: 'Processes whose files take too long to look into. They were looked into in part.' },
    does_not_answer: {
      meaning: 'Processes of which a file, or its file system, does not answer. They are left alone.',
    },
    container_budget: {
      meaning: 'Looks at processes of a container that had used its share of work. They come later.',
    },
    left_alone: { meaning: 'Looks at processes of which a file did not answer before.' },
    late_answer: { meaning: 'Answers of the reading thread that came too late to be used.' },
    queue_full: { meaning: 'Questions that the reading thread had no room for.' },
    reader_hung: {
      meaning: 'The reading thread hung on a file that did not answer, and was replaced.',
      action: 'Look for a network or FUSE file system that hangs.',
    },
    reader_failed: { meaning: 'The reading thread ended by itself, out of memory for instance, and was replaced.' },
    reader_given_up: {
      meaning: 'The reading thread hung too often and is not replaced any more.',
      action: 'Look for a network or FUSE file system that hangs, then restart the agent.',
    },
  },
};

const OTHER_TABLES: readonly ReasonTable[] = [
  READER_REASONS,
  {
    key: 'wirespan.probes.events',
    title: 'The search for TLS libraries',
    reasons: {
      probe_files_limit: { meaning: 'Files that were forgotten for others.', action: 'Raise `limits.probe_files`.' },
      probe_attachments_limit: { meaning: 'Files that are not probed.', action: 'Raise `limits.probe_attachments`.' },
      container_attachments_limit: { meaning: 'Files of one container that are not probed, because it has too many.' },
      probe_attach_failed: { meaning: 'Probes that the kernel refused.', action: 'Run `wirespan doctor`.' },
      probe_queue_full: {
        meaning: 'New processes that were not looked at again.',
        action: 'Raise `limits.probe_queue`.',
      },
      probe_looks_skipped: {
        meaning: 'Looks at processes beyond `limits.probe_reads_per_second`. They come later.',
      },
      probe_processes_limit: {
        meaning: 'Processes that were forgotten for others.',
        action: 'Raise `limits.probe_processes`.',
      },
    },
  },
  {
    key: '--pcapng',
    title: 'Packets that the packet file lacks',
    reasons: {
      off: { meaning: 'The file was given up after an error of the disk.', action: 'The log has the error.' },
      writer_behind: { meaning: 'The disk was slower than the packets.', action: 'Raise `limits.pcapng_queue_bytes`.' },
    },
  },
  {
    key: 'wirespan.kubernetes.events',
    title: 'Watches on the cluster',
    reasons: {
      over_limit: { meaning: 'Objects that are not known.', action: 'Raise `limits.kubernetes_objects`.' },
      handler_failed: { meaning: 'An error of the agent while it took an object.', action: REPORT },
      owner_queue_full: { meaning: 'Owners of pods that were not asked for, because too many waited.' },
      owner_unknown: { meaning: 'Owners of pods that the API server did not give.', action: 'Check the ClusterRole.' },
    },
  },
  {
    key: 'wirespan.kubernetes.waits',
    title: 'Exchanges that waited for the names of their pods',
    reasons: {
      waited: { meaning: 'Exchanges that waited.' },
      timeout: { meaning: 'Exchanges that left after `kubernetes.wait_ms` with what was known.' },
      no_room: {
        meaning: 'Exchanges that did not wait, because too many did.',
        action: 'Raise `limits.waiting_exchanges`.',
      },
      memory: { meaning: 'Exchanges that left early because the memory budget was full.', action: MEMORY },
    },
  },
];

/** @param added the tables of the protocols @returns all tables: words of a key that is known here follow those of the core */
export function allReasons(added: readonly ReasonTable[]): readonly ReasonTable[] {
  const tables = new Map<string, ReasonTable>();
  for (const table of [...REASONS, ...added, ...OTHER_TABLES]) {
    const { key, title, reasons } = tables.get(table.key) ?? table;
    tables.set(key, { key, title, reasons: { ...reasons, ...table.reasons } });
  }
  return [...tables.values()];
}

/** @returns the page docs/reference/reasons.md */
export function reasonsPage(tables: readonly ReasonTable[]): string {
  const sections = tables.map(({ key, title, reasons }) => {
    const rows = Object.entries(reasons).map(
      ([word, { meaning, action }]) => `| \`${word}\` | ${meaning} | ${action ?? ''} |`,
    );
    return [
      `## ${title}`,
      '',
      `${key.startsWith('wirespan.') ? 'Metric' : key.startsWith('--') ? 'Option' : 'Key of the statistics'}: \`${key}\``,
      '',
      '| Reason | Meaning | What to do |',
      '| --- | --- | --- |',
      ...rows,
    ].join('\n');
  });
  return `# Reasons\n\nThe statistics and metrics count by these words.\n\n${sections.join('\n\n')}\n`;
}
