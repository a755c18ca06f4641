#!/usr/bin/env node
/** `npm start [-- COMMAND OPTIONS]`: set-up, then the given command of wirespan, `agent` when none is given. */
import { join } from 'node:path';
import { root } from './common.mjs';
import { prepare, replaceBy } from './prepare.mjs';

const given = process.argv.slice(2);
const first = given[0];
const standsAlone = first === '--version' || first === '--help' || first === '-h';
const args = first !== undefined && (standsAlone || !first.startsWith('-')) ? given : ['agent', ...given];

const node = prepare();
await replaceBy(node, [join(root, 'dist', 'main.js'), ...args]);
