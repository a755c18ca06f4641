/** Splits a V8 processor profile by the stage (folder of src/ or dist/) whose code was running. */
interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string }; children?: number[] }[];
  samples: number[];
  timeDeltas: number[];
}

/** @returns seconds of self time by stage; native calls made by a stage count for that stage */
export function stagesOfProfile(profile: CpuProfile): Record<string, number> {
  const stageOfNode = new Map<number, string>();
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const visit = (id: number, inherited: string): void => {
    const node = byId.get(id)!;
    const stage = stageOf(node.callFrame.url, node.callFrame.functionName, inherited);
    stageOfNode.set(id, stage);
    for (const child of node.children ?? []) visit(child, stage);
  };
  visit(profile.nodes[0]!.id, 'node');
  const seconds: Record<string, number> = {};
  for (let i = 0; i < profile.samples.length; i++) {
    const stage = stageOfNode.get(profile.samples[i]!) ?? 'node';
    if (stage === 'idle') continue;
    seconds[stage] = (seconds[stage] ?? 0) + (profile.timeDeltas[i] ?? 0) / 1e6;
  }
  return seconds;
}

function stageOf(url: string, name: string, inherited: string): string {
  if (name === '(idle)') return 'idle';
  if (name === '(garbage collector)') return 'garbage collector';
  const own = /\/(?:src|dist)\/([a-z0-9]+)(?:\/|\.[jt]s)/.exec(url);
  if (own && !url.includes('node_modules')) return own[1]!;
  if (url.includes('node_modules/@opentelemetry') || url.includes('node_modules/@grpc')) return 'export';
  if (url.startsWith('node:internal/http2')) return 'export';
  return inherited;
}
