import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readEnvironment } from '../../../src/config/environment.ts';
import { parseConfig } from '../../../src/config/load.ts';
import type { Config } from '../../../src/config/schema.ts';
import { metricsDestination, type OtlpSettings, otlpSettings } from '../../../src/export/otlp-settings.ts';

function configOf(environment: Record<string, string>, text = ''): { config: Config; warnings: readonly string[] } {
  const { values, warnings } = readEnvironment(environment);
  return { config: parseConfig(text, 'x.yaml', { below: values }), warnings };
}

const settingsOf = (config: Config): OtlpSettings => otlpSettings(metricsDestination(config), 'test/0', 'metrics');

test('nothing is sent and nobody is listened for unless it is asked for', () => {
  const { config } = configOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://gateway:4317', OTEL_METRICS_EXPORTER: 'none' });
  assert.deepEqual(config.telemetry, { exchanges: false, otlp: false, intervalMs: 60_000 });
  assert.deepEqual(config.metrics, { durations: false, exponential: false, exemplars: true });
  assert.equal(config.otlpMetrics, undefined);
});

test('the standard variables of metrics', () => {
  const { config, warnings } = configOf({
    OTEL_METRICS_EXPORTER: 'otlp, prometheus',
    OTEL_METRIC_EXPORT_INTERVAL: '15000',
    OTEL_EXPORTER_PROMETHEUS_PORT: '9000',
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION: 'base2_exponential_bucket_histogram',
    OTEL_METRICS_EXEMPLAR_FILTER: 'always_off',
  });
  assert.deepEqual(config.telemetry, { exchanges: false, otlp: true, listen: 'localhost:9000', intervalMs: 15_000 });
  assert.deepEqual(config.metrics, { durations: false, exponential: true, exemplars: false });
  assert.equal(config.otlpMetrics, undefined);
  assert.deepEqual(warnings, []);
  const v6 = configOf({ OTEL_METRICS_EXPORTER: 'prometheus', OTEL_EXPORTER_PROMETHEUS_HOST: '::1' });
  assert.equal(v6.config.telemetry.listen, '[::1]:9464');
  const bracketed = configOf({ OTEL_METRICS_EXPORTER: 'prometheus', OTEL_EXPORTER_PROMETHEUS_HOST: '[::1]' });
  assert.equal(bracketed.config.telemetry.listen, '[::1]:9464');
});

test('what cannot be done is said', () => {
  const { config, warnings } = configOf({
    OTEL_METRICS_EXPORTER: 'console,prometheus',
    OTEL_EXPORTER_PROMETHEUS_PORT: '70000',
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'delta',
    OTEL_METRIC_EXPORT_INTERVAL: 'often',
  });
  assert.deepEqual([config.telemetry.otlp, config.telemetry.listen], [false, undefined]);
  assert.deepEqual(warnings, [
    'OTEL_METRIC_EXPORT_INTERVAL: expected a whole number from 1 to 3600000; ignored',
    'OTEL_METRICS_EXPORTER: expected otlp, prometheus or none; ignored',
    'OTEL_EXPORTER_PROMETHEUS_HOST, _PORT: expected a name or an address, and a port; ignored',
    'OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: all is cumulative here; ignored',
  ]);
});

test('metrics go where spans go, by gRPC and by HTTP', () => {
  const general = configOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://gateway:4317', OTEL_EXPORTER_OTLP_HEADERS: 'a=b' });
  assert.deepEqual(
    [settingsOf(general.config).url, settingsOf(general.config).headers, settingsOf(general.config).signal],
    ['http://gateway:4317/v1/metrics', [['a', 'b']], 'metrics'],
  );
  const http = configOf({}, 'otlp: { endpoint: "http://gateway:4318", protocol: http/protobuf }');
  assert.equal(settingsOf(http.config).url, 'http://gateway:4318/v1/metrics');
  assert.equal(otlpSettings(http.config.otlp, 'test/0').url, 'http://gateway:4318/v1/traces');
  const path = configOf({}, 'otlp: { endpoint: "https://gateway/otlp/v1/traces", protocol: http/protobuf }');
  assert.equal(settingsOf(path.config).url, 'https://gateway/otlp/v1/metrics');
  assert.equal(settingsOf(configOf({}).config).url, 'http://localhost:4317');
});

test('or to a backend of their own, which gets nothing that is meant for another', () => {
  const environment = {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://traces:4317',
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'authorization=secret',
    OTEL_EXPORTER_OTLP_HEADERS: 'tenant=1',
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://metrics:9090/api/v1/otlp/v1/metrics',
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'http/protobuf',
    OTEL_EXPORTER_OTLP_METRICS_COMPRESSION: 'gzip',
  };
  const { url, protocol, compression, headers } = settingsOf(configOf(environment).config);
  assert.deepEqual(
    [url, protocol, compression, headers],
    ['http://metrics:9090/api/v1/otlp/v1/metrics', 'http/protobuf', 'gzip', [['tenant', '1']]],
  );
  const file = configOf(
    {},
    'otlp: { headers: { authorization: secret } }\notlp_metrics: { endpoint: "metrics:4317" }\n',
  );
  assert.deepEqual([settingsOf(file.config).url, settingsOf(file.config).headers], ['metrics:4317', []]);
});
