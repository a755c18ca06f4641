/** `node native/setup/run.mjs SCRIPT ARGS`: set-up, then a script of the checkout with the right Node. */
import { prepare, replaceBy } from './prepare.mjs';

await replaceBy(prepare(), process.argv.slice(2));
