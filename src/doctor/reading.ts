/** What caps cost where files of processes are read, for people. */
import type { ReasonCounts } from '../telemetry/counters.ts';
import type { Check } from './report.ts';

const REASONS: Readonly<Record<string, string>> = {
  maps_bytes_limit: 'memory maps longer than is read: what stands behind is not known',
  mapped_files_limit: 'processes that map more files as code than are looked into',
  environment_bytes_limit: 'environments longer than is read: variables behind that are not known',
  command_line_bytes_limit: 'command lines longer than is read',
  cgroup_bytes_limit: 'lists of cgroups longer than is read',
  stat_bytes_limit: 'files of /proc longer than is read',
  elf_bytes_limit: 'programs or libraries with more symbols than are read',
  elf_time_limit: 'programs or libraries whose symbols take too long to read',
  loader_configuration_limit: 'ld.so.conf files longer than is read',
  library_folders_limit: 'more library folders than are looked at',
  libraries_per_folder_limit: 'folders with more libraries than are looked into',
  folder_entries_limit: 'folders with more entries than are looked at',
  not_a_regular_file: 'names of libraries that lead to a device, a pipe or a folder: not opened',
  process_budget: 'processes whose files take too long to look into: looked into in part',
  does_not_answer: 'processes of which a file, or its file system, does not answer: left alone',
};

/** One check for each cap that was passed. */
export function readingChecks(counts: ReasonCounts): Check[] {
  return Object.entries(counts)
    .filter(([, n]) => n > 0)
    .map(([name, n]) => ({
      group: 'Reading about processes',
      name,
      state: 'limited',
      detail: `${n} times: ${REASONS[name] ?? 'a limit was reached'}`,
    }));
}
