import { closeSync, openSync } from 'node:fs';
import { type Feature, probeFeatures } from '../capture/features.ts';
import { ElfFile, readerOf } from '../secrets/elf.ts';
import { type FoundPlace, Libraries } from '../secrets/libraries.ts';
import { openProbes, type SecretProbes } from '../secrets/native-probes.ts';
import type { Check } from './report.ts';

const GROUP = 'Kernel';

/** What the agent needs of the kernel, by the names of src/capture/features.ts, and what a lack of it means. */
const meanings: Readonly<
  Record<string, { readonly title: string; readonly without: 'no' | 'limited'; readonly remedy?: string }>
> = {
  btf: {
    title: 'BTF',
    without: 'no',
    remedy: 'use a kernel that is built with CONFIG_DEBUG_INFO_BTF, and mount /sys',
  },
  cgroup_v2: {
    title: 'cgroup v2',
    without: 'no',
    remedy:
      'mount the cgroup v2 hierarchy, also beside version 1: mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2',
  },
  ring_buffer: { title: 'BPF ring buffer', without: 'no', remedy: 'use Linux 5.10 or later' },
  cgroup_skb: { title: 'packets of sockets', without: 'no' },
  sock_create: { title: 'owners of sockets', without: 'no' },
  raw_tp: { title: 'starts of programs', without: 'no' },
  capture_programs: { title: 'capture programs', without: 'no' },
  socket_iterator: { title: 'iterator over sockets', without: 'limited' },
};

/** Tries everything that the agent does in the kernel, and takes it back at once. */
export function checkKernel(): Check[] {
  return [...probeFeatures().map(describeFeature), checkProbes()];
}

export function describeFeature({ name, ok, detail }: Feature): Check {
  const meaning = meanings[name] ?? { title: name, without: 'limited' as const };
  if (ok) return { group: GROUP, name: meaning.title, state: 'ok', detail };
  const { title, without, remedy } = meaning;
  return { group: GROUP, name: title, state: without, detail, ...(remedy !== undefined && { remedy }) };
}

/**
 * A probe is proven by attaching it: here to the OpenSSL inside of this very Node, for an instant.
 */
function checkProbes(): Check {
  const name = 'probes of TLS libraries';
  let probes: SecretProbes | undefined;
  try {
    const place = ownProbePlace();
    probes = openProbes();
    if (place === undefined) {
      return {
        group: GROUP,
        name,
        state: 'limited',
        detail: 'the program loads; attaching it was not tried, this Node has no OpenSSL of its own',
      };
    }
    probes.detach(
      probes.attach(process.execPath, place.fileOffset, 0, { provider: place.provider.name, program: place.program }),
    );
    const way = probes.info().multi ? 'by uprobe_multi links' : 'by perf events, the older way';
    return { group: GROUP, name, state: 'ok', detail: `attached and detached, ${way}` };
  } catch (error) {
    return { group: GROUP, name, state: 'no', detail: (error as Error).message };
  } finally {
    probes?.close();
  }
}

function ownProbePlace(): FoundPlace | undefined {
  const descriptor = openSync(process.execPath, 'r');
  try {
    const elf = ElfFile.open(readerOf(descriptor));
    const judgement = elf === undefined ? undefined : new Libraries().judge(elf, process.execPath);
    return judgement?.verdict === 'probe' ? judgement.places[0] : undefined;
  } finally {
    closeSync(descriptor);
  }
}
