import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { defaultSamplingOptions } from '../../../src/span/sampling.ts';
import { builder, call, connection, exchange, headers, sqlExchange, statement } from '../../support/spans/fixtures.ts';

describe('verdict', () => {
  it('says why each end of an exchange has no span', () => {
    const unsampled = builder({ sampling: { ...defaultSamplingOptions, ratio: 0 } });
    assert.deepEqual(unsampled.build(exchange()), []);
    assert.deepEqual({ ...unsampled.verdict }, { client: 'unsampled', server: 'unsampled' });

    const spans = builder();
    const traceparent = `00-${'1'.repeat(32)}-${'2'.repeat(16)}-00`;
    spans.build(exchange({ requestHeaders: headers({ traceparent }) }));
    assert.deepEqual({ ...spans.verdict }, { client: 'unsampled', server: 'unsampled' });
    spans.build(sqlExchange({ statement: statement({ ignored: true }) }));
    assert.deepEqual({ ...spans.verdict }, { client: 'ignored', server: 'perspective' });
    spans.build(call({ interimUs: 1 }, { target: '/opentelemetry.proto.collector.trace.v1.TraceService/Export' }));
    assert.deepEqual({ ...spans.verdict }, { client: 'otlp_export', server: 'otlp_export' });
  });

  it('forgets what it said of the exchange before', () => {
    const spans = builder();
    spans.build(sqlExchange({ statement: statement({ ignored: true }) }));
    assert.equal(spans.build(exchange({ connection: connection({ client: { socket: 0 } }) })).length, 1);
    assert.equal(spans.verdict.client, 'perspective');
  });
});
