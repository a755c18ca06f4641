import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FlatSpan, parseSpans } from '../otlp/spans.ts';

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));

/**
 * `wirespan replay` of one file in a process of its own: its spans in the order of their beginnings, and its statistics.
 *
 * @param more arguments
 */
export function replayCapture(file: string, ...more: string[]): { spans: FlatSpan[]; stats: Record<string, unknown> } {
  const folder = mkdtempSync(join(tmpdir(), 'replay-'));
  try {
    const [output, statsFile] = [join(folder, 'spans.jsonl'), join(folder, 'stats.json')];
    const { status, stderr } = spawnSync(
      process.execPath,
      [MAIN, 'replay', file, '--output', `otlp-json=${output}`, '--stats', statsFile, ...more],
      { encoding: 'utf8', timeout: 60_000 },
    );
    assert.equal(status, 0, stderr);
    return {
      spans: parseSpans(readFileSync(output, 'utf8')).sort((a, b) => a.startUs - b.startUs),
      stats: JSON.parse(readFileSync(statsFile, 'utf8')) as Record<string, unknown>,
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
