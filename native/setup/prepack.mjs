/** Before `npm pack` and `npm publish`: the package carries a complete, current dist/. */
import { prepare } from './prepare.mjs';

prepare();
