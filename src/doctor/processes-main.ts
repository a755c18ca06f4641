/** The doctor's thread: what is read about processes may hang, and the doctor shall not. */
import { parentPort, workerData } from 'node:worker_threads';
import { SharedGuard } from '../files/guard.ts';
import { newTally } from '../files/read.ts';
import { checkProcesses } from './processes.ts';
import type { FromSearch, SearchSettings } from './processes-watched.ts';

const { procRoot, guard, skip } = workerData as SearchSettings;
const say = (message: FromSearch): void => parentPort!.postMessage(message);
const tally = newTally();
checkProcesses(procRoot, {
  tally,
  guard: new SharedGuard(guard),
  skip: new Set(skip),
  tell: (check) => say({ check }),
});
say({ counts: tally.counts });
