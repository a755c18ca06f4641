import { run } from '../programs/process.ts';

/** The fields asked for, each with all its values in the packet. */
export type PacketFields<Name extends string> = Record<Name, string[]>;

/**
 * Runs tshark over a file and returns the fields of each packet that passes the display filter.
 * @param options preferences, each as for `-o`, such as `tls.keylog_file:/a/b`
 * @param decodeAs each as for `-d`, such as `tcp.port==50051,http2`
 */
export async function tsharkFields<Name extends string>(
  file: string,
  filter: string,
  fields: readonly Name[],
  options: readonly string[] = [],
  decodeAs: readonly string[] = [],
): Promise<PacketFields<Name>[]> {
  const { stdout } = await run(
    'tshark',
    [
      ...['-n', '-r', file, '-Y', filter, '-T', 'json', '--no-duplicate-keys'],
      ...fields.flatMap((field) => ['-e', field]),
      ...options.flatMap((option) => ['-o', option]),
      ...decodeAs.flatMap((rule) => ['-d', rule]),
    ],
    { timeoutMs: 300_000 },
  );
  const packets = JSON.parse(stdout.trim() || '[]') as { _source: { layers: Partial<Record<Name, string[]>> } }[];
  return packets.map(
    ({ _source }) =>
      Object.fromEntries(fields.map((field) => [field, _source.layers[field] ?? []])) as PacketFields<Name>,
  );
}

/** The port that the first connection of a file is opened to. */
export async function tsharkServerPort(file: string): Promise<string> {
  const [syn] = await tsharkFields(file, 'tcp.flags.syn == 1 and tcp.flags.ack == 0', ['tcp.dstport']);
  const port = syn?.['tcp.dstport'][0];
  if (port === undefined) throw new Error(`${file}: no connection is opened`);
  return port;
}

export interface HttpMessage {
  stream: number;
  /** A request's method and target, or a response's status. */
  method?: string;
  target?: string;
  status?: number;
}

const HTTP_FIELDS = ['tcp.stream', 'http.request.method', 'http.request.uri', 'http.response.code'] as const;

/**
 * Else a client's port that is registered for some protocol (44818: EtherNet/IP), as the kernel may give it to any connection, is
 * taken for more than what the bytes say.
 */
const BYTES_BEFORE_PORTS = 'tcp.try_heuristic_first:TRUE';

/**
 * Every HTTP/1 request and response of a file, in tshark's order. Several in one packet are all there.
 * @param within a display filter that the packets must pass too
 */
export async function tsharkHttp(
  file: string,
  options: readonly string[] = [],
  within = 'tcp',
): Promise<HttpMessage[]> {
  const filter = `(http.request or http.response) and ${within}`;
  const packets = await tsharkFields(file, filter, HTTP_FIELDS, [BYTES_BEFORE_PORTS, ...options]);
  return packets.flatMap((packet) => {
    const stream = Number(packet['tcp.stream'][0] ?? -1);
    const requests = packet['http.request.method'].map((method, index) => ({
      stream,
      method,
      target: packet['http.request.uri'][index] ?? '',
    }));
    const responses = packet['http.response.code'].map((code) => ({ stream, status: Number(code) }));
    return [...requests, ...responses];
  });
}
