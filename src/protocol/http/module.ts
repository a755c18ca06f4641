import { createHttp1Protocol } from '../http1/protocol.ts';
import { createHttp2Protocol } from '../http2/protocol.ts';
import { defineProtocol } from '../module.ts';
import { httpSection } from './config.ts';
import { httpCost } from './cost.ts';
import { httpLimits } from './limits.ts';
import { httpReasons } from './reasons.ts';
import { httpSpans } from './span.ts';
import { keptHeaders } from './span-headers.ts';
import { httpView } from './view.ts';

/** HTTP/1.0, HTTP/1.1 and HTTP/2. */
export const http = defineProtocol({
  name: 'http',
  title: 'HTTP',
  exchanges: 'HTTP requests',
  page: 'http.md',
  reads: 'HTTP/1.0, 1.1 and 2',
  ports: [80],
  systems: [],
  config: { http: httpSection },
  limits: httpLimits,
  reasons: httpReasons,
  create({ config }) {
    const kept = keptHeaders(config.http);
    const keepHeaders = new Set([...kept.request, ...kept.response]);
    return {
      connections({ bodies, streams, upgrades }) {
        const http2 = createHttp2Protocol({ keepHeaders, streams });
        return [createHttp1Protocol({ keepHeaders, upgradeToHttp2: http2.createUpgraded, upgrades, bodies }), http2];
      },
    };
  },
  cost: httpCost,
  view: httpView,
  spans: httpSpans,
});
