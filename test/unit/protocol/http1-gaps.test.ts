import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Direction, FROM_CLIENT, FROM_SERVER } from '../../../src/flow/connection.ts';
import { Bench, type Step } from '../../support/protocols/cases.ts';

/** Three exchanges, one after the other, told apart by their statuses. */
const CONVERSATION: readonly (readonly [Direction, string])[] = [
  [FROM_CLIENT, 'POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nabcdefghijkl'],
  [FROM_SERVER, 'HTTP/1.1 201 Created\r\nContent-Length: 16\r\nContent-Type: t\r\n\r\n0123456789abcdef'],
  [FROM_CLIENT, 'PUT /two HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n4\r\nijkl\r\n0\r\n\r\n'],
  [FROM_SERVER, 'HTTP/1.1 402 No\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n4\r\nijkl\r\n0\r\n\r\n'],
  [FROM_CLIENT, 'GET /three HTTP/1.1\r\nHost: x\r\n\r\n'],
  [FROM_SERVER, 'HTTP/1.1 203 OK\r\nContent-Length: 3\r\n\r\nabc'],
];
const TRUTH: Record<string, { method: string; status: number; in: number; out: number }> = {
  '/one': { method: 'POST', status: 201, in: 12, out: 16 },
  '/two': { method: 'PUT', status: 402, in: 12, out: 12 },
  '/three': { method: 'GET', status: 203, in: 0, out: 3 },
};

interface Hole {
  readonly message: number;
  readonly at: number;
  readonly length: number;
}

function* holes(): Generator<Hole> {
  for (let message = 0; message < CONVERSATION.length - 2; message++) {
    const size = CONVERSATION[message]![1].length;
    for (let at = 0; at < size; at++) {
      for (const length of [1, 2, 7, 30, 1000]) yield { message, at, length: Math.min(length, size - at) };
    }
  }
}

/** @param late the hole is given up only when the next message of its direction arrives */
function steps(hole: Hole, late: boolean): Step[] {
  const result: Step[] = [];
  let kept: Step[] = [];
  CONVERSATION.forEach(([direction, text], message) => {
    const timeUs = (message + 1) * 10;
    const bytes = Buffer.from(text, 'latin1');
    const push = (part: Buffer): void => {
      if (part.length > 0) result.push({ kind: 'data', direction, bytes: part, timeUs });
    };
    if (message !== hole.message) {
      if (message === hole.message + 2) {
        result.push(...kept);
        kept = [];
      }
      push(bytes);
      return;
    }
    push(bytes.subarray(0, hole.at));
    const rest = bytes.subarray(hole.at + hole.length);
    kept = [{ kind: 'gap', direction, length: hole.length, timeUs }];
    if (rest.length > 0) kept.push({ kind: 'data', direction, bytes: rest, timeUs });
    if (!late) {
      result.push(...kept);
      kept = [];
    }
  });
  return result;
}

for (const late of [false, true]) {
  test(`a hole at every offset of every message${late ? ', given up late' : ''}`, () => {
    let survived = 0;
    for (const hole of holes()) {
      const where = JSON.stringify(hole);
      const bench = new Bench().run(steps(hole, late));
      bench.close('fin', 1000);
      const seen = new Set<string>();
      for (const e of bench.exchanges) {
        const truth = TRUTH[e.target];
        assert.ok(truth !== undefined && e.method === truth.method, `${where}: made up ${e.method} ${e.target}`);
        assert.ok(!seen.has(e.target), `${where}: twice ${e.target}`);
        seen.add(e.target);
        assert.ok(e.statusCode === 0 || e.statusCode === truth.status, `${where}: ${e.target} got ${e.statusCode}`);
        if (e.incomplete !== undefined) assert.equal(e.incomplete, 'gap', where);
        else {
          assert.equal(e.statusCode, truth.status, where);
          assert.equal(e.requestBodyBytes, truth.in, where);
          assert.equal(e.responseBodyBytes, truth.out, where);
          survived++;
        }
      }
      // What follows a quiet moment is whole.
      const last = bench.exchanges.at(-1);
      assert.equal(last?.target, '/three', where);
      assert.equal(last?.incomplete, undefined, where);
      assert.ok(seen.has('/one') || seen.has('/two'), where);
      const lost = TRUTH['/one'] && seen.size < 3 ? bench.counters.incomplete : undefined;
      if (lost !== undefined) assert.ok((lost.gap ?? 0) + (lost.request_not_seen ?? 0) > 0, `${where}: lost silently`);
    }
    assert.ok(survived > 0);
  });
}

test('a hole inside a body changes nothing but the bytes that were seen', () => {
  for (const [message, target] of [
    [0, '/one'],
    [1, '/one'],
  ] as const) {
    const text = CONVERSATION[message]![1];
    const body = text.indexOf('\r\n\r\n') + 4;
    for (let at = body; at < text.length; at++) {
      for (let length = 1; length <= text.length - at; length++) {
        const bench = new Bench().run(steps({ message, at, length }, false));
        const e = bench.exchanges.find((exchange) => exchange.target === target);
        assert.equal(e?.incomplete, undefined, `${message} ${at} ${length}`);
        assert.equal(bench.exchanges.length, 3);
        assert.deepEqual(bench.counters.incomplete, {});
      }
    }
  }
});
