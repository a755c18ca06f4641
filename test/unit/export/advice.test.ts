import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adviceFor } from '../../../src/export/advice.ts';

for (const [status, reason, advice] of [
  [
    'UNAVAILABLE',
    'No connection established. Last error: Error: self-signed certificate. Resolution note: ',
    /otlp\.ca_file/,
  ],
  ['error', 'unable to verify the first certificate', /otlp\.ca_file/],
  [
    'error',
    "Hostname/IP does not match certificate's altnames: Host: a. is not in the cert's altnames: DNS:b",
    /other names/,
  ],
  ['error', 'certificate has expired', /out of date/],
  [
    'error',
    'write EPROTO 40:error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required',
    /otlp\.cert_file/,
  ],
  ['error', 'write EPROTO 40:error:0A00010B:SSL routines:ssl3_get_record:wrong version number', /http:\/\//],
  ['UNAVAILABLE', 'Name resolution failed for target dns:nowhere.invalid:4317', /DNS/],
  ['error', 'getaddrinfo ENOTFOUND nowhere.invalid', /DNS/],
  ['UNAVAILABLE', 'Last error: Error: connect ECONNREFUSED 127.0.0.1:1', /nothing listens/],
  ['UNAUTHENTICATED', 'x', /credentials/],
  ['HTTP 403', 'Forbidden', /allow/],
  ['HTTP 404', 'Not Found', /4318/],
  ['UNIMPLEMENTED', 'unknown service', /4317/],
  ['RESOURCE_EXHAUSTED', 'grpc: received message larger than max', /batch_spans/],
  ['DEADLINE_EXCEEDED', 'Deadline exceeded after 10s', /too slow/],
  ['HTTP 500', 'Internal Server Error', undefined],
] as const) {
  test(`${status}: ${reason}`, () => {
    const given = adviceFor(status, reason);
    if (advice === undefined) assert.equal(given, undefined);
    else assert.match(given ?? '', advice);
  });
}
