import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { SpanBuilderOptions } from '../../../src/span/builder.ts';
import { RateLimit } from '../../../src/span/rate-limit.ts';
import { defaultSamplingOptions, type SamplingOptions } from '../../../src/span/sampling.ts';
import type { Span } from '../../../src/span/span.ts';
import { newCounters } from '../../../src/telemetry/counters.ts';
import { builder, call, connection, exchange, headers, nginx, sqlExchange } from '../../support/spans/fixtures.ts';
import { sections } from '../../support/wire/protocols.ts';

const PARENT = 'b7ad6b7169203331';
const sampling = (options: Partial<SamplingOptions>): SamplingOptions => ({ ...defaultSamplingOptions, ...options });
/** Of n different traces. */
const roots = (n: number) =>
  Array.from({ length: n }, (_, i) => connection({ initialSequence: [i, i], server: { port: 80 } }));
const traceId = (random: string) => random.padStart(32, '1');
const w3c = (random: string, flags: string, tracestate?: string) =>
  headers({ host: 'h', traceparent: `00-${traceId(random)}-${PARENT}-${flags}`, ...(tracestate && { tracestate }) });
const adjusted = (span: Span): number => {
  const digits = /(?:^|[=;])th:([\da-f]+)/.exec(span.traceState)?.[1] ?? '0';
  return 2 ** 56 / (2 ** 56 - Number.parseInt(digits.padEnd(14, '0'), 16));
};

/** The tracestate of the CLIENT and the SERVER span, or undefined, and what was counted. */
function decide(options: Partial<SpanBuilderOptions>, changes: Parameters<typeof exchange>[0]) {
  const counters = newCounters();
  const made = builder({ ...options, counters }).build(exchange(changes));
  const state = (end: string) => made.find((span) => span.endpoint === end)?.traceState;
  return [state('client'), state('server'), counters.spans.leftOut] as const;
}

describe('sampling by ratio', () => {
  it('keeps a share of the roots, alike at both ends and on both nodes, and says so', () => {
    const counters = newCounters();
    const options = { sampling: sampling({ ratio: 0.25 }), counters };
    const near = builder(options);
    const far = builder(options);
    let kept = 0;
    for (const one of roots(4000)) {
      const client = near.build(exchange({ connection: { ...one, server: { ...one.server, socket: 0 } } }));
      const ids = client.map((span) => span.traceId);
      const server = far.build(exchange({ connection: { ...one, client: { ...one.client, socket: 0, port: 1 } } }));
      assert.deepEqual(
        server.map((span) => span.traceId),
        ids,
      );
      for (const span of server) assert.equal(span.traceState, 'ot=th:c');
      kept += ids.length;
    }
    assert.ok(kept > 850 && kept < 1150, String(kept));
    assert.equal(counters.spans.leftOut.unsampled, 2 * (4000 - kept));
    assert.equal(counters.spans.made, 2 * kept);
  });

  it('whoever keeps less keeps a part of what the others keep', () => {
    const kept = (ratio: number) => {
      const spans = builder({ sampling: sampling({ ratio }) });
      return roots(1000).map((one) => spans.build(exchange({ connection: one })).length > 0);
    };
    const [few, more] = [kept(0.1), kept(0.4)];
    assert.ok(few.every((one, i) => !one || more[i]));
  });

  it('takes the last 56 bits of the trace id, or the randomness that the context names', () => {
    const half = { sampling: sampling({ followParent: false, ratio: 0.5 }) };
    const made = (random: string, tracestate?: string) =>
      decide(half, { requestHeaders: w3c(random, '01', tracestate) })[0];
    assert.equal(made('80000000000000'), 'ot=th:8');
    assert.equal(made('7fffffffffffff'), undefined);
    assert.equal(made('f7fffffffffffff'), undefined);
    assert.equal(made('7fffffffffffff', 'ot=rv:80000000000000'), 'ot=rv:80000000000000;th:8');
    assert.equal(made('80000000000000', 'x=y,ot=rv:7fffffffffffff'), undefined);
  });

  it('a decision on the wire goes first, with its threshold as long as that can be true', () => {
    const tenth = { sampling: sampling({ ratio: 0.1 }) };
    const state = (random: string, flags: string, tracestate?: string) =>
      decide(tenth, { requestHeaders: w3c(random, flags, tracestate) })[1];
    assert.equal(state('1', '01'), '');
    assert.equal(state('1', '01', 'a=b'), 'a=b');
    assert.equal(state('c0000000000000', '01', 'ot=th:c'), 'ot=th:c');
    assert.equal(state('bfffffffffffff', '01', 'ot=th:c'), '');
    assert.equal(state('ffffffffffffff', '00'), undefined);
    // Undecided: ours.
    const b3 = (random: string) =>
      decide(tenth, { requestHeaders: headers({ host: 'h', b3: `${traceId(random)}-${PARENT}` }) })[1];
    assert.equal(b3('f0000000000000'), 'ot=th:e666');
    assert.equal(b3('e0000000000000'), undefined);
  });

  it('without a sampler a threshold that cannot be true is taken out all the same, and nothing is added', () => {
    const state = (random: string, tracestate?: string) =>
      decide({}, { requestHeaders: w3c(random, '01', tracestate) })[0];
    assert.equal(state('0', 'ot=th:8,a=b'), 'a=b');
    assert.equal(state('80000000000000', 'ot=th:8,a=b'), 'ot=th:8,a=b');
    assert.equal(state('80000000000000', 'ot=th:zz;k:v'), 'ot=k:v');
    assert.equal(decide({}, {})[0], '');
  });

  it('all, whatever the wire says', () => {
    const all = { sampling: sampling({ followParent: false }) };
    assert.deepEqual(decide(all, { requestHeaders: w3c('1', '00') }), ['', '', {}]);
    assert.deepEqual(decide({}, { requestHeaders: w3c('1', '00') }), [undefined, undefined, { unsampled: 2 }]);
  });
});

describe('errors and what is slow', () => {
  const none = (options: Partial<SamplingOptions> = {}) => ({ sampling: sampling({ ratio: 0, ...options }) });
  const kept = ['ot=th:0', 'ot=th:0', {}];
  const gone = [undefined, undefined, { unsampled: 2 }];

  it('are kept at both ends, each for itself', () => {
    assert.deepEqual(decide(none(), {}), gone);
    for (const failed of [{ statusCode: 503 }, { statusCode: 404 }, { incomplete: 'connection_reset' } as const]) {
      assert.deepEqual(decide(none(), failed), kept);
      assert.deepEqual(decide(none({ keepErrors: false }), failed), gone);
    }
    // 0.25 ms.
    assert.deepEqual(decide(none({ keepSlowerThanMs: 1 }), {}), gone);
    const slow = { endUs: exchange().startUs + 1000 };
    assert.deepEqual(decide(none({ keepSlowerThanMs: 1 }), slow), kept);
    assert.deepEqual(decide(none({ keepSlowerThanMs: 1 }), { ...slow, startUs: 0, responseStartUs: 0 }), gone);
  });

  it('calls and statements, too', () => {
    const spans = builder(none());
    assert.equal(spans.build(call()).length, 0);
    assert.equal(spans.build(call({ statusCode: 5 })).length, 2);
    assert.equal(spans.build(sqlExchange()).length, 0);
    assert.equal(spans.build(sqlExchange({ failed: true, statusCode: '42P01' })).length, 1);
  });

  it('in a trace that is not sampled on the wire only on request', () => {
    const requestHeaders = w3c('ff', '00');
    const failed = { statusCode: 500, requestHeaders };
    assert.deepEqual(decide({}, failed), gone);
    assert.deepEqual(decide({ sampling: sampling({ keepInUnsampledTraces: true }) }, failed), kept);
    assert.deepEqual(decide({ sampling: sampling({ keepInUnsampledTraces: true }) }, { requestHeaders }), gone);
    // In a sampled one it stands for as many as the others of its kind, unless all are kept.
    const sampled = { statusCode: 500, requestHeaders: w3c('ffffffffffffff', '01', 'ot=th:8') };
    assert.deepEqual(decide(none(), sampled), ['ot=th:8', 'ot=th:8', {}]);
    assert.deepEqual(decide(none({ keepInUnsampledTraces: true }), sampled), kept);
  });

  it('counts come out right in expectation: ten percent failed, a tenth of the rest is kept', () => {
    const spans = builder({ perspective: 'server', sampling: sampling({ ratio: 0.1 }) });
    let [all, errors] = [0, 0];
    roots(20_000).forEach((one, i) => {
      for (const span of spans.build(exchange({ connection: one, statusCode: i % 10 === 0 ? 500 : 200 }))) {
        all += adjusted(span);
        if (span.status === 2) errors += adjusted(span);
      }
    });
    assert.equal(errors, 2000);
    // Four standard deviations.
    assert.ok(Math.abs(all - 20_000) < 4 * Math.sqrt(18_000 * 9), String(all));
  });
});

describe('spans per second of a service', () => {
  const options = (spansPerSecond: number) => ({ sampling: sampling({ spansPerSecond }) });

  it('leaves a quiet service alone', () => {
    const spans = builder({ perspective: 'server', ...options(100) });
    const made = roots(100).flatMap((one) => spans.build(exchange({ connection: one })).map((span) => span.traceState));
    assert.deepEqual([...new Set(made)], ['ot=th:0']);
  });

  it('comes out at the limit, errors aside, and says how many there were', () => {
    const counters = newCounters();
    const spans = builder({ perspective: 'server', counters, ...options(100) });
    const perSecond: number[] = [];
    let total = 0;
    roots(20_000).forEach((one, i) => {
      const endUs = 1_700_000_000_000_000 + i * 1000;
      const made = spans.build(exchange({ connection: one, startUs: endUs - 100, endUs, statusCode: 200 }));
      perSecond[Math.floor(i / 1000)] = (perSecond[Math.floor(i / 1000)] ?? 0) + made.length;
      for (const span of made) total += adjusted(span);
    });
    // The first second does not know yet: 100 + 100 ln 10.
    assert.ok(perSecond[0]! < 420, String(perSecond));
    const rest = perSecond.slice(1).reduce((sum, n) => sum + n, 0) / 19;
    assert.ok(rest > 75 && rest < 110, String(rest));
    assert.ok(Math.abs(total - 20_000) < 2000, String(total));
    assert.equal(counters.spans.leftOut.rate_limited, 20_000 - counters.spans.made);
    const before = counters.spans.made;
    for (const one of roots(500)) spans.build(exchange({ connection: one, statusCode: 500 }));
    assert.equal(counters.spans.made, before + 500);
  });

  it('judges each end by its own service: one keeps a part of what the other keeps', () => {
    const spans = builder(options(10));
    const servers = builder({ perspective: 'server', ...options(10) });
    let both = 0;
    for (const one of roots(2000)) {
      const ends = spans.build(exchange({ connection: one })).map((span) => span.endpoint);
      // The same service behind another client: it alone decides.
      const alone = servers.build(exchange({ connection: one })).length > 0;
      assert.equal(ends.includes('server'), alone);
      both += ends.length === 2 ? 1 : 0;
    }
    assert.ok(both > 10, String(both));
  });

  it('a sampled context raises its threshold, one that is not known stays unknown', () => {
    const spans = builder({ perspective: 'server', ...options(1) });
    const states = new Set<string>();
    for (let i = 0; i < 64; i++) {
      for (const tracestate of [undefined, 'ot=th:8']) {
        for (const span of spans.build(exchange({ requestHeaders: w3c('ffffffffffffff', '01', tracestate) }))) {
          states.add(span.traceState);
        }
      }
    }
    const said = [...states].filter((state) => state !== '');
    assert.ok(states.has(''), [...states].join());
    assert.ok(said.includes('ot=th:8') && said.length > 5, said.join());
    for (const state of said) assert.ok(state >= 'ot=th:8', state);
  });

  it('forgets services beyond the cap, and says so', () => {
    const counters = newCounters();
    const limits = {
      sampledServices: 2,
      instrumentedProcesses: 1,
      learnedServices: 1,
      learnedSegments: 9,
      learnedSegmentsPerPlace: 2,
    };
    let name = '';
    const resources = { resourceOf: () => ({ name, attributes: { 'service.name': name } }) };
    const spans = builder({ perspective: 'server', resources, counters, limits, ...options(1) });
    for (name of ['a', 'b', 'a', 'c', 'a']) spans.build(exchange());
    assert.deepEqual(counters.services, { rate_forgotten: 2 });
  });

  it('keeps a share that is at most what is wanted and at least seven eighths of it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 5000 }), (limit, offered) => {
        const rate = new RateLimit(limit, 1, () => {});
        let threshold = rate.thresholdOf(nginx, 0);
        for (let i = 1; i < offered; i++) threshold = rate.thresholdOf(nginx, i);
        const share = 1 - (threshold.high * 2 ** 32 + threshold.low) / 2 ** 56;
        const wanted = Math.min(1, limit / offered);
        assert.ok(share <= wanted + 1e-12 && share >= wanted * 0.875, `${share} of ${wanted}`);
      }),
    );
  });
});

describe('filters', () => {
  const filters = (include: object[], exclude: object[] = []) => ({ filters: { include, exclude } });
  const counted = (n: number) => ({ filtered: n });

  it('an empty list filters nothing', () => assert.deepEqual(decide(filters([]), {}), ['', '', {}]));

  const matching: [string, object, Parameters<typeof exchange>[0]][] = [
    ['path', { path: '/orders/{id}' }, {}],
    ['path without its query', { path: '/orders/17' }, { target: '/orders/17?a=b' }],
    ['path with a rest', { path: '/static/*' }, { target: '/static/a/b' }],
    ['method', { method: 'GET' }, {}],
    ['method by pattern', { method: 'PROP*' }, { method: 'PROPFIND' }],
    ['duration', { max_duration_us: 250 }, {}],
    ['failure', { failed: true }, { statusCode: 404 }],
    ['all of several', { method: 'GET', path: '/orders/*', failed: false }, {}],
  ];
  const toRule = (rule: object) =>
    Object.fromEntries(
      Object.entries(rule).map(([key, value]) => [key.replace('max_duration_us', 'maxDurationUs'), value]),
    );
  for (const [name, rule, changes] of matching) {
    it(`by ${name}`, () => {
      const other = { method: 'POST', target: '/other', endUs: exchange().startUs + 9999 };
      assert.deepEqual(decide(filters([], [toRule(rule)]), changes), [undefined, undefined, counted(2)]);
      assert.deepEqual(decide(filters([], [toRule(rule)]), other), ['', '', {}]);
      assert.deepEqual(decide(filters([toRule(rule)]), changes), ['', '', {}]);
      assert.deepEqual(decide(filters([toRule(rule)]), other), [undefined, undefined, counted(2)]);
    });
  }

  it('by service and namespace of each end', () => {
    assert.deepEqual(decide(filters([], [{ service: 'cur*' }]), {}), [undefined, '', counted(1)]);
    assert.deepEqual(decide(filters([{ service: 'curl' }, { service: '*x' }]), {}), ['', '', {}]);
    const resources = {
      resourceOf: (cookie: number) => ({
        name: 's',
        attributes: { 'k8s.namespace.name': cookie === 11 ? 'shop' : 'bank' },
      }),
    };
    assert.deepEqual(decide({ resources, ...filters([{ namespace: 'shop' }]) }, {}), ['', undefined, counted(1)]);
    assert.deepEqual(decide(filters([{ namespace: '*' }]), {}), ['', '', {}]);
    assert.deepEqual(decide(filters([{ namespace: 'shop' }]), {}), [undefined, undefined, counted(2)]);
  });

  it('by database, whole or without its schema; statements have no path', () => {
    const made = (rule: object) => builder(filters([rule])).build(sqlExchange({ namespace: 'shop|public' })).length;
    assert.equal(made({ database: 'shop' }), 1);
    assert.equal(made({ database: 'shop|pub*' }), 1);
    assert.equal(made({ database: 'sho' }), 0);
    assert.equal(made({ method: 'SELECT' }), 1);
    assert.equal(made({ path: '/*' }), 0);
    assert.equal(decide(filters([], [{ database: '*' }]), {})[0], '');
  });

  it('calls of gRPC by method and path', () => {
    const made = (rule: object) => builder(filters([], [rule])).build(call()).length;
    assert.equal(made({ method: 'shop.v1.Orders/*' }), 0);
    assert.equal(made({ path: '/shop.v1.Orders/{method}' }), 0);
    assert.equal(made({ method: 'shop.v1.Orders' }), 2);
  });

  it('on paths as they are shown', () => {
    const http = { redactPaths: ['/reset/{token}'] };
    const rule = filters([], [{ path: '/reset/{token}' }]);
    assert.deepEqual(decide({ config: sections({ http }), ...rule }, { target: '/reset/abc' })[2], counted(2));
  });
});
