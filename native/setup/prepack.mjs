/** Before `npm pack` and `npm publish`: the package carries a complete, current dist/, and says what it holds of others. */
import { say } from './common.mjs';
import { noticeIsCurrent } from './notice.mjs';
import { prepare } from './prepare.mjs';

if (!noticeIsCurrent()) {
  say('NOTICE does not say what the package carries of others: run npm run notice');
  process.exit(1);
}
prepare();
