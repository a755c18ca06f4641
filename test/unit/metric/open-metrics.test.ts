import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HistogramMetric, Metric, MetricGroup, NumberMetric } from '../../../src/metric/metric.ts';
import { formatFor, toText } from '../../../src/metric/open-metrics.ts';

const spans: NumberMetric = {
  kind: 'counter',
  name: 'otel.sdk.span.started',
  unit: '{span}',
  description: 'Spans "made"\nand a \\',
  points: [
    { attributes: { 'otel.span.sampling_result': 'DROP' }, value: 0 },
    { attributes: {}, value: 3e21 },
  ],
};
const queue: NumberMetric = {
  kind: 'up_down_counter',
  name: 'wirespan.queue.usage',
  unit: 'By',
  description: 'Bytes',
  points: [{ attributes: {}, value: -1.5 }],
};
const duration: HistogramMetric = {
  kind: 'histogram',
  name: 'http.server.request.duration',
  unit: 's',
  description: 'Duration',
  bounds: [0.005, 1, 2.5],
  points: [
    {
      attributes: { 'http.request.method': 'GET', 'http.response.status_code': 200 },
      startUnixUs: 1,
      count: 6,
      sum: 7.25,
      min: 0.001,
      max: 4,
      counts: [3, 2, 0, 1],
      exponential: undefined,
      exemplars: [
        undefined,
        { value: 0.75, unixUs: 1_700_000_000_123_456, traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) },
      ],
    },
  ],
};
const group = (metrics: readonly Metric[], labels = {}): MetricGroup => ({ resource: {}, labels, metrics });
const target = { 'service.name': 'wirespan' };

test('OpenMetrics', () => {
  assert.equal(
    toText([group([spans, queue, duration])], target, 'openmetrics'),
    `# HELP target The agent
# TYPE target info
target_info{service_name="wirespan"} 1
# HELP otel_sdk_span_started Spans \\"made\\"\\nand a \\\\
# TYPE otel_sdk_span_started counter
otel_sdk_span_started_total{otel_span_sampling_result="DROP"} 0
otel_sdk_span_started_total 3e+21
# HELP wirespan_queue_usage_bytes Bytes
# TYPE wirespan_queue_usage_bytes gauge
# UNIT wirespan_queue_usage_bytes bytes
wirespan_queue_usage_bytes -1.5
# HELP http_server_request_duration_seconds Duration
# TYPE http_server_request_duration_seconds histogram
# UNIT http_server_request_duration_seconds seconds
http_server_request_duration_seconds_bucket{http_request_method="GET",http_response_status_code="200",le="0.005"} 3
http_server_request_duration_seconds_bucket{http_request_method="GET",http_response_status_code="200",le="1.0"} 5 # {trace_id="${'a'.repeat(32)}",span_id="${'b'.repeat(16)}"} 0.75 1700000000.123
http_server_request_duration_seconds_bucket{http_request_method="GET",http_response_status_code="200",le="2.5"} 5
http_server_request_duration_seconds_bucket{http_request_method="GET",http_response_status_code="200",le="+Inf"} 6
http_server_request_duration_seconds_sum{http_request_method="GET",http_response_status_code="200"} 7.25
http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200"} 6
# EOF
`,
  );
});

test('the older text format: no units, no exemplars, counters by their full name', () => {
  const text = toText([group([spans, duration])], target, 'text');
  assert.match(text, /^# HELP target_info The agent\n# TYPE target_info gauge\n/);
  assert.match(
    text,
    /\n# HELP otel_sdk_span_started_total Spans "made"\\nand a \\\\\n# TYPE otel_sdk_span_started_total counter\n/,
  );
  assert.match(text, /le="1.0"\} 5\n/);
  assert.doesNotMatch(text, /UNIT|EOF|trace_id/);
  assert.ok(text.endsWith('\n'));
});

test('the lines of a metric stand together, whichever resources they are of', () => {
  const text = toText(
    [group([queue, spans], { 'service.name': 'a"b\\c\nd' }), group([queue], { 'service.name': 'other' })],
    target,
    'openmetrics',
  );
  assert.match(
    text,
    /wirespan_queue_usage_bytes\{service_name="a\\"b\\\\c\\nd"\} -1.5\nwirespan_queue_usage_bytes\{service_name="other"\} -1.5\n/,
  );
  assert.equal(text.match(/# TYPE wirespan_queue_usage_bytes/g)?.length, 1);
});

test('names end in their unit, once', () => {
  const named = (name: string, unit: string, kind: NumberMetric['kind']): string => {
    const text = toText([group([{ ...queue, name, unit, kind }])], {}, 'openmetrics');
    return text
      .split('\n')
      .findLast((line) => !line.startsWith('#') && line !== '')!
      .split(' ')[0]!;
  };
  assert.equal(named('process.cpu.time', 's', 'counter'), 'process_cpu_time_seconds_total');
  assert.equal(named('a.seconds', 's', 'gauge'), 'a_seconds');
  assert.equal(named('a.total', '{x}', 'counter'), 'a_total');
  assert.equal(named('a.utilization', '1', 'gauge'), 'a_utilization_ratio');
  assert.equal(named('a.things', '1', 'counter'), 'a_things_total');
});

test('what the Accept field asks for', () => {
  const prometheus =
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  assert.equal(formatFor(prometheus), 'openmetrics');
  assert.equal(formatFor('text/plain, application/openmetrics-text'), 'openmetrics');
  assert.equal(formatFor('application/openmetrics-text; q=0.5'), 'openmetrics');
  assert.equal(formatFor('application/openmetrics-text; q=0'), 'text');
  assert.equal(formatFor('application/openmetrics-text;version=1.0.0;q=0.0, */*'), 'text');
  assert.equal(formatFor('text/plain;version=0.0.4'), 'text');
  assert.equal(formatFor('*/*'), 'text');
  assert.equal(formatFor(''), 'text');
});
