/** `node native/setup/run.mjs [--live] SCRIPT ARGS`: set-up, then a script of the checkout with the right Node. */
import { LIVE, TEST } from './packages.mjs';
import { prepare, replaceBy } from './prepare.mjs';

const [first, ...rest] = process.argv.slice(2);
/** `--live`: the script runs real servers and load generators. */
const live = first === '--live';
const needs = live ? { needs: [...TEST, ...LIVE], purpose: 'run real servers' } : {};
await replaceBy(prepare(needs), live ? rest : [first, ...rest]);
