import type { CommandName } from './arguments.ts';

const general = `wirespan turns what the processes of this machine ask of each other, encrypted or not, into OpenTelemetry spans.

Usage: wirespan COMMAND [OPTIONS]

Commands:
  agent            watch this machine, live
  replay FILE...   make spans from pcap and pcapng files
  doctor           say what can be seen here and what cannot, and why

  --version        print the version
  --help           print this text; wirespan COMMAND --help says more

Example:
  sudo wirespan agent --output console

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.
`;

/**
 * @param perspectives which ends become spans by default
 * @param own options of this command alone
 */
const options = (
  perspectives: string,
  own = '',
): string => `  -o, --output WHERE       where spans go; may be given several times:
                             otlp              to an OTLP endpoint, by gRPC or HTTP
                             console           one line per exchange on standard output
                             otlp-json[=FILE]  one OTLP/JSON request per line, on standard output or to FILE
                             jsonl[=FILE]      one JSON object per exchange, on standard output or to FILE
                             none              nowhere; the statistics still count them
                           default: otlp when OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
                           is set, else console
  -c, --config FILE        read the configuration (YAML); this command line goes before it
      --keylog FILE        take TLS secrets from an NSS key log (SSLKEYLOGFILE), too
      --stats FILE         at exit, write the statistics as a JSON object to FILE, or to standard output for -
      --perspective WHICH  client, server or both: which ends of an exchange become spans
                           default: ${perspectives}
      --pcapng FILE        write the packets with their TLS secrets to FILE, for tshark and Wireshark
${own}      --log-level LEVEL    error, warn, info or debug
      --log-format FORMAT  text or json; default: text for a terminal, else json
  -h, --help               print this text`;

const agentOptions = `      --cgroup PATH        watch this subtree of the cgroup v2 hierarchy instead of its root
      --listen HOST:PORT   answer /healthz, /readyz and /metrics there; :PORT on every address
`;

const environment = `Environment: the standard OTEL_EXPORTER_OTLP_* variables (endpoint, headers, compression, certificates, timeout), and
OTEL_TRACES_EXPORTER, OTEL_TRACES_SAMPLER, OTEL_BSP_SCHEDULE_DELAY, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
OTEL_LOG_LEVEL.`;

const texts: Readonly<Record<CommandName, string>> = {
  agent: `Watches this machine, live: the traffic of every process becomes spans. Needs root, or the capabilities that
"wirespan doctor" names. Prints a line that begins with "ready" to standard error once it sees everything.
An interrupt (Ctrl-C) or SIGTERM ends it: what is under way is exported first; a second one ends it at once.

Usage: wirespan agent [OPTIONS]

Options:
${options('those on this machine, of SQL the client alone if it is one of them', agentOptions)}

${environment}

Examples:
  sudo wirespan agent
  sudo OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 wirespan agent --output otlp --output console
  sudo wirespan agent --cgroup /sys/fs/cgroup/system.slice/nginx.service --pcapng nginx.pcapng --stats -
`,
  replay: `Makes spans from packets in files: pcap or pcapng, also compressed with gzip; - is standard input. TLS secrets come from the
file itself (Decryption Secrets Blocks) and from --keylog.

Usage: wirespan replay [OPTIONS] FILE...

Options:
${options('of HTTP the server, of SQL the client')}

${environment}

Examples:
  wirespan replay capture.pcapng
  wirespan replay --keylog keys.log --output otlp-json=spans.jsonl --stats - monday.pcap.gz tuesday.pcap.gz
  tcpdump -w - tcp port 80 or tcp port 5432 | wirespan replay -
`,
  doctor: `Says what can be seen on this machine and what cannot, and why: kernel features, capabilities, the cgroup mount, BTF, and the
TLS library of each running process and whether it is probed. Every statement was checked. Ends with 1 when the agent
could not run, and says what to do.

Usage: wirespan doctor [OPTIONS]

Options:
      --json               print one JSON object
  -h, --help               print this text

Example:
  sudo wirespan doctor
`,
};

/** @returns the help of one command, or of the program */
export function helpText(command?: CommandName): string {
  return command === undefined ? general : texts[command];
}
