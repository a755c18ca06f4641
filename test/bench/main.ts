/**
 * `npm run bench -- [live] [replay] [http2] [http2-replay] [sql] [sql-replay] [redis] [gateway] [kubernetes] [--rounds N] [--seconds N] [--exchanges N] [--pods N]
 * [--json]`
 */
import { parseArgs } from 'node:util';
import { gatewayBench, printGateway } from './gateway.ts';
import { http2Bench, printHttp2 } from './http2.ts';
import { kubernetesBench, printKubernetes } from './kubernetes.ts';
import { liveBench, printLive } from './live.ts';
import { printRedis, redisBench } from './redis.ts';
import { http2ReplayBench, printReplay, replayBench, sqlReplayBench } from './replay.ts';
import { printSql, sqlBench } from './sql.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '6' },
    exchanges: { type: 'string', default: '1000000' },
    pods: { type: 'string', default: '10000' },
    json: { type: 'boolean', default: false },
  },
});

const all = ['live', 'replay', 'http2', 'http2-replay', 'sql', 'sql-replay', 'redis', 'gateway', 'kubernetes'];
const wanted = positionals.length === 0 ? all : positionals;
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`bench: ${unknown.join(', ')}: expected ${all.join(', ')} or nothing for all`);
  process.exit(2);
}
const rounds = Number(values.rounds);
const result: Record<string, unknown> = {};
if (wanted.includes('live')) {
  const live = await liveBench({ rounds, seconds: Number(values.seconds) });
  result.live = live;
  if (!values.json) printLive(live);
}
if (wanted.includes('replay')) {
  const replay = await replayBench({ rounds, exchanges: Number(values.exchanges) });
  result.replay = replay;
  if (!values.json) printReplay(replay);
}
if (wanted.includes('http2')) {
  const http2 = await http2Bench({ rounds, seconds: Number(values.seconds) });
  result.http2 = http2;
  if (!values.json) printHttp2(http2);
}
if (wanted.includes('http2-replay')) {
  const replay = await http2ReplayBench({ rounds, exchanges: Number(values.exchanges) });
  result.http2Replay = replay;
  if (!values.json) printReplay(replay);
}
if (wanted.includes('sql')) {
  const sql = await sqlBench({ rounds, seconds: Number(values.seconds) });
  result.sql = sql;
  if (!values.json) printSql(sql);
}
if (wanted.includes('sql-replay')) {
  const replay = await sqlReplayBench({ rounds, exchanges: Number(values.exchanges) });
  result.sqlReplay = replay;
  if (!values.json) printReplay(replay);
}
if (wanted.includes('redis')) {
  const redis = await redisBench({ rounds, seconds: Number(values.seconds) });
  result.redis = redis;
  if (!values.json) printRedis(redis);
}
if (wanted.includes('gateway')) {
  const gateway = await gatewayBench({ rounds, exchanges: Math.min(Number(values.exchanges), 250_000) });
  result.gateway = gateway;
  if (!values.json) printGateway(gateway);
}
if (wanted.includes('kubernetes')) {
  const kubernetes = await kubernetesBench({ pods: Number(values.pods) });
  result.kubernetes = kubernetes;
  if (!values.json) printKubernetes(kubernetes);
}
if (values.json) console.log(JSON.stringify(result));
