import { chmod, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Certificate, selfSigned } from '../programs/certificate.ts';
import type { Cleanup } from '../programs/cleanup.ts';
import { freePorts, until, waitForPort } from '../programs/net.ts';
import { type Running, start } from '../programs/process.ts';

/** A line of the access log; the names are those of nginx's variables. */
export interface AccessLogEntry {
  /** Seconds since the epoch, when the line was written. */
  msec: number;
  /** Seconds from the first byte read to the line. */
  request_time: number;
  request_method: string;
  request_uri: string;
  status: number;
  /** Sent in all, and of that the body. */
  bytes_sent: number;
  body_bytes_sent: number;
  request_length: number;
  server_protocol: string;
  server_port: number;
  remote_addr: string;
  remote_port: number;
  connection: number;
  connection_requests: number;
  /** `TLSv1.3`, empty when plain. */
  ssl_protocol: string;
  ssl_cipher: string;
  ssl_session_reused: string;
  http_user_agent: string;
}

const NUMBERS = [
  'msec',
  'request_time',
  'status',
  'bytes_sent',
  'body_bytes_sent',
  'request_length',
  'server_port',
  'remote_port',
  'connection',
  'connection_requests',
] as const;
const TEXTS = [
  'request_method',
  'request_uri',
  'server_protocol',
  'remote_addr',
  'ssl_protocol',
  'ssl_cipher',
  'ssl_session_reused',
  'http_user_agent',
] as const;

export interface NginxOptions {
  workers?: number;
  /** The address to listen on for IPv4, loopback by default; IPv6 loopback is always listened on too. */
  host?: string;
  /** Further directives for the http block and for each server block. */
  http?: string;
  server?: string;
  /** HTTP/2 on all ports: by ALPN where there is TLS, and by prior knowledge (and nothing else) on the plain one. */
  http2?: boolean;
  /** Files below /files/, by name: their length in bytes (sparse, zeroes). */
  files?: Record<string, number>;
  /** Runs before nginx on its command line, such as `ip netns exec NAME`. */
  prefix?: readonly string[];
  /** Without a log, for measurements. */
  log?: boolean;
}

export interface Nginx {
  running: Running;
  folder: string;
  certificate: Certificate;
  plainPort: number;
  tls12Port: number;
  tls13Port: number;
  /** All whole lines that have been written; waits until there are `atLeast`: nginx logs a request after its client has the answer. */
  accessLog(atLeast?: number): Promise<AccessLogEntry[]>;
}

/** The paths that every server block answers. */
const LOCATIONS = `
      location = /hello { return 200 "hello\\n"; }
      location /orders/ { return 200 "{\\"order\\":1}\\n"; }
      location = /empty { return 204; }
      location /missing { return 404 "missing\\n"; }
      location /broken { return 500 "broken\\n"; }
      location /moved { return 302 /hello; }
      location = /200 { return 200 "${'x'.repeat(200)}"; }
      location /files/ { root .; }
`;

function config(
  options: NginxOptions,
  host: string,
  ports: { plain: number; tls12: number; tls13: number },
  certificate: Certificate,
): string {
  const format = [...NUMBERS.map((name) => `"${name}":$${name}`), ...TEXTS.map((name) => `"${name}":"$${name}"`)].join(
    ',',
  );
  const server = (port: number, tls: string) => `
    server {
      listen ${host}:${port} ${tls ? 'ssl' : ''} ${options.http2 ? 'http2' : ''} backlog=4096;
      listen [::1]:${port} ${tls ? 'ssl' : ''} ${options.http2 ? 'http2' : ''};
      ${tls ? `ssl_protocols ${tls}; ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};` : ''}
      ${options.server ?? ''}
      ${LOCATIONS}
    }`;
  return `
daemon off;
user root;
pid nginx.pid;
error_log error.log warn;
worker_processes ${options.workers ?? 1};
worker_rlimit_nofile 65536;
events { worker_connections 8192; }
http {
  default_type text/plain;
  sendfile on;
  keepalive_requests 1000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  client_max_body_size 0;
  log_format facts escape=json '{${format}}';
  access_log ${options.log === false ? 'off' : 'access.log facts'};
  ${options.http ?? ''}
  ${server(ports.plain, '')}
  ${server(ports.tls12, 'TLSv1.2')}
  ${server(ports.tls13, 'TLSv1.3')}
}
`;
}

/** Starts nginx with a plain, a TLS 1.2 and a TLS 1.3 port, in a temporary folder. */
export async function startNginx(cleanup: Cleanup, options: NginxOptions = {}): Promise<Nginx> {
  const folder = await cleanup.temporaryFolder();
  const certificate = await selfSigned(cleanup);
  const [plain, tls12, tls13] = await freePorts(3);
  const host = options.host ?? '127.0.0.1';
  await writeFile(
    join(folder, 'nginx.conf'),
    config(options, host, { plain: plain!, tls12: tls12!, tls13: tls13! }, certificate),
  );
  await mkdir(join(folder, 'files'));
  await chmod(join(folder, 'files'), 0o755);
  for (const [name, length] of Object.entries(options.files ?? {})) {
    const file = await open(join(folder, 'files', name), 'w');
    await file.truncate(length);
    await file.close();
  }
  const [command = 'nginx', ...before] = [...(options.prefix ?? []), 'nginx'];
  const running = start(cleanup, command, [...before, '-p', folder, '-c', 'nginx.conf', '-e', 'error.log']);
  if (options.prefix === undefined) for (const port of [plain!, tls12!, tls13!]) await waitForPort(port, host);
  return {
    running,
    folder,
    certificate,
    plainPort: plain!,
    tls12Port: tls12!,
    tls13Port: tls13!,
    accessLog(atLeast = 0) {
      return until(async () => {
        const text = await readFile(join(folder, 'access.log'), 'utf8');
        const lines = text
          .slice(0, text.lastIndexOf('\n') + 1)
          .split('\n')
          .slice(0, -1);
        return lines.length < atLeast ? undefined : lines.map((line) => JSON.parse(line) as AccessLogEntry);
      }, `${atLeast} lines in nginx's log`);
    },
  };
}
