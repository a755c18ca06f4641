import { run } from '../programs/process.ts';

export interface UserIds {
  uid: number;
  gid: number;
}

/** The numbers of a user of the system. */
export async function userIds(name: string): Promise<UserIds> {
  const ask = async (flag: string) => Number((await run('id', [flag, name])).stdout);
  return { uid: await ask('-u'), gid: await ask('-g') };
}

/** The command line that runs a program as that user; the process keeps its id. */
export function asUser(ids: UserIds, words: readonly string[]): string[] {
  return ['setpriv', `--reuid=${ids.uid}`, `--regid=${ids.gid}`, '--clear-groups', '--', ...words];
}
