// Brings the C and C++ sources into the form that the .clang-format files say: `node native/format.mjs`, or `--check` to compare only.
// The versions 14 to 19 of clang-format agree on these files. Without clang-format nothing is checked, which is said.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');

const files = ['bpf', 'native', 'src', 'test'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true })
    .filter((name) => /\.(c|cc|h)$/.test(name) && !name.includes('node_modules'))
    .map((name) => join(folder, name))
    .sort(),
);

const mode = process.argv.includes('--check') ? ['--dry-run', '-Werror'] : ['-i'];
const { error, status } = spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' });
if (error?.code === 'ENOENT') {
  process.stdout.write(
    `clang-format is not installed (apt-get install clang-format): ${files.length} files are not checked\n`,
  );
} else if (error !== undefined || status !== 0) {
  process.stderr.write('C and C++ sources are not in form: run node native/format.mjs\n');
  process.exitCode = 1;
}
