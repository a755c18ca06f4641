/** TLS and mutual TLS to the backend, over both protocols; what is wrong with a certificate is said so that one knows what to do. */
import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import { suite, test } from 'node:test';
import { GrpcBackend, HttpBackend, type TlsOptions } from '../support/otlp/backend.ts';
import { assertAccounted, startExportRun } from '../support/otlp/export-run.ts';
import { type Certificate, selfSigned } from '../support/programs/certificate.ts';
import { type Cleanup, cleanupAfter } from '../support/programs/cleanup.ts';
import { PATIENCE_MS } from '../support/programs/paths.ts';

const SENT = 400;
const protocols = ['grpc', 'http/protobuf'] as const;

async function tlsOptions({ certFile, keyFile }: Certificate, client?: Certificate): Promise<TlsOptions> {
  const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
  return { cert, key, ...(client !== undefined && { clientCa: await readFile(client.certFile) }) };
}

function backendOf(protocol: (typeof protocols)[number], tls: TlsOptions, cleanup: Cleanup) {
  return protocol === 'grpc' ? new GrpcBackend(tls).start(cleanup) : new HttpBackend(tls).start(cleanup);
}

// They wait most of their time.
suite('TLS to the backend', { concurrency: 4 }, () => {
  for (const protocol of protocols) {
    test(`${protocol}: mutual TLS by the standard variables`, async (t) => {
      const cleanup = cleanupAfter(t);
      const [server, client] = await Promise.all([selfSigned(cleanup), selfSigned(cleanup, 'rsa')]);
      const backend = await backendOf(protocol, await tlsOptions(server, client), cleanup);
      const run = await startExportRun(cleanup, {
        env: {
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
          OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint,
          OTEL_EXPORTER_OTLP_CERTIFICATE: '/nowhere/general',
          OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE: server.certFile,
          OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: client.certFile,
          OTEL_EXPORTER_OTLP_CLIENT_KEY: client.keyFile,
          OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
        },
      });
      assertAccounted(await run.ended(), SENT, backend.spans);
      assert.equal(backend.spans, SENT);
    });

    test(`${protocol}: mutual TLS by the configuration file`, async (t) => {
      const cleanup = cleanupAfter(t);
      const [server, client] = await Promise.all([selfSigned(cleanup), selfSigned(cleanup)]);
      const backend = await backendOf(protocol, await tlsOptions(server, client), cleanup);
      const run = await startExportRun(cleanup, {
        config: {
          otlp: {
            endpoint: backend.endpoint,
            protocol,
            ca_file: server.certFile,
            cert_file: client.certFile,
            key_file: client.keyFile,
          },
        },
      });
      assertAccounted(await run.ended(), SENT, backend.spans);
      assert.equal(backend.spans, SENT);
    });

    test(`${protocol}: without the certificate that the backend wants`, async (t) => {
      const cleanup = cleanupAfter(t);
      const [server, client] = await Promise.all([selfSigned(cleanup), selfSigned(cleanup)]);
      const backend = await backendOf(protocol, await tlsOptions(server, client), cleanup);
      const run = await startExportRun(cleanup, {
        traffic: { exchanges: 100 },
        stdin: 'held',
        config: {
          otlp: { endpoint: backend.endpoint, protocol, ca_file: server.certFile },
          export: { flush_deadline_ms: 300 },
        },
      });
      await run.running.waitFor(
        'stderr',
        /the backend wants another client certificate: name one that it trusts/,
        PATIENCE_MS,
      );
      run.release();
      assertAccounted(await run.ended(), 200, 0);
    });

    test(`${protocol}: an authority that is not trusted here; once its file is there, everything arrives`, async (t) => {
      const cleanup = cleanupAfter(t);
      const [server, other] = await Promise.all([selfSigned(cleanup), selfSigned(cleanup)]);
      const backend = await backendOf(protocol, await tlsOptions(server), cleanup);
      const run = await startExportRun(cleanup, {
        config: {
          otlp: { endpoint: backend.endpoint, protocol, ca_file: other.certFile },
          export: { flush_deadline_ms: 2 * PATIENCE_MS },
        },
      });
      await run.running.waitFor(
        'stderr',
        /trying again .*name the PEM file of that authority in otlp\.ca_file/,
        PATIENCE_MS,
      );
      assert.equal(backend.spans, 0);
      // As someone would who reads that.
      await copyFile(server.certFile, other.certFile);
      assertAccounted(await run.ended(), SENT, backend.spans);
      assert.equal(backend.spans, SENT);
    });

    test(`${protocol}: a certificate for other names`, async (t) => {
      const cleanup = cleanupAfter(t);
      const server = await selfSigned(cleanup, 'ec', ['DNS:elsewhere.example'], []);
      const backend = await backendOf(protocol, await tlsOptions(server), cleanup);
      const run = await startExportRun(cleanup, {
        traffic: { exchanges: 100 },
        stdin: 'held',
        config: {
          otlp: { endpoint: backend.endpoint, protocol, ca_file: server.certFile },
          export: { flush_deadline_ms: 300 },
        },
      });
      await run.running.waitFor('stderr', /the certificate of the backend is for other names/, PATIENCE_MS);
      run.release();
      assertAccounted(await run.ended(), 200, 0);
    });

    test(`${protocol}: TLS to a backend that does not speak it`, async (t) => {
      const cleanup = cleanupAfter(t);
      const backend =
        protocol === 'grpc' ? await new GrpcBackend().start(cleanup) : await new HttpBackend().start(cleanup);
      const run = await startExportRun(cleanup, {
        traffic: { exchanges: 100 },
        stdin: 'held',
        config: {
          otlp: { endpoint: backend.endpoint.replace('http:', 'https:'), protocol },
          export: { flush_deadline_ms: 300 },
        },
      });
      await run.running.waitFor('stderr', /does not speak TLS at this port/, PATIENCE_MS);
      run.release();
      assertAccounted(await run.ended(), 200, 0);
    });
  }
});

test('a file that cannot be read ends the start, with its name', async (t) => {
  const cleanup = cleanupAfter(t);
  const run = await startExportRun(cleanup, {
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://127.0.0.1:1', OTEL_EXPORTER_OTLP_CERTIFICATE: '/nowhere/ca.pem' },
  });
  const result = await run.running.exited;
  assert.equal(result.exitCode, 1);
  assert.equal(result.stderr, 'wirespan: otlp: ca_file /nowhere/ca.pem cannot be read: there is no such file\n');
});
