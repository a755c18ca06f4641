/**
 * Names a program by what it runs: the executable, or for an interpreter the script or module that it was given.
 *
 * A script is named by its file without directory and extension: `/srv/shop/server.js` is `server`. Two names stand for their
 * directory by the language's own rule and are so named here: `index` (Node resolves a directory to it) and `__main__` (Python
 * runs a directory by it); `/srv/shop/dist/index.js` is `shop`, since directories that hold a build or sources say nothing.
 *
 * One executable may be many programs, by the name that it is called by: busybox, or a server whose name is a link to
 * its checker's. Then the name it was called by counts.
 */

/** How an interpreter reads its command line. */
interface Interpreter {
  /** Options whose value is the next word. */
  readonly valued: ReadonlySet<string>;
  /** Single-letter options may share a word, and the last one's value may be the rest of it: `-um MODULE`. */
  readonly clusters: boolean;
  /** Options whose value is the program's text: nothing to name it by. */
  readonly inline: ReadonlySet<string>;
  /** Options whose value is the name of a module. */
  readonly module: ReadonlySet<string>;
  /** Options whose value is the script's file. */
  readonly file: ReadonlySet<string>;
  /** Words before the script. */
  readonly subcommands: ReadonlySet<string>;
  /** The bare word is a class, not a file. */
  readonly bareIsModule: boolean;
}

function interpreter(
  words: { [Name in 'valued' | 'inline' | 'module' | 'file' | 'subcommands']?: string },
  flags?: {
    readonly clusters?: boolean;
    readonly bareIsModule?: boolean;
  },
): Interpreter {
  const set = (list: string | undefined) => new Set(list?.split(' '));
  return {
    valued: set(words.valued),
    inline: set(words.inline),
    module: set(words.module),
    file: set(words.file),
    subcommands: set(words.subcommands),
    clusters: flags?.clusters ?? false,
    bareIsModule: flags?.bareIsModule ?? false,
  };
}

const shell = interpreter({ valued: '-o -O +O --rcfile --init-file', inline: '-c' }, { clusters: true });

/** By the executable's name without its version. Options from each program's own help and manual page. */
const interpreters: Readonly<Record<string, Interpreter>> = {
  node: interpreter({
    valued:
      '-r --require --import --loader --experimental-loader -C --conditions --env-file --env-file-if-exists --title --input-type --inspect-port --icu-data-dir --openssl-config --redirect-warnings --max-http-header-size --stack-trace-limit --dns-result-order --diagnostic-dir --trace-event-categories --watch-path --unhandled-rejections --disable-warning --localstorage-file --experimental-config-file --secure-heap --tls-keylog --tls-cipher-list --report-dir --report-directory --report-filename',
    inline: '-e --eval -p --print -pe',
  }),
  deno: interpreter({
    valued: '-c --config --import-map --cert -L --log-level --lock --seed --location --port --host',
    inline: 'eval',
    subcommands: 'run serve task test bench',
  }),
  bun: interpreter({
    valued: '-r --preload --cwd -c --config --env-file --port',
    inline: '-e --eval -p --print',
    subcommands: 'run x',
  }),
  python: interpreter({ valued: '-W -X --check-hash-based-pycs', inline: '-c', module: '-m' }, { clusters: true }),
  ruby: interpreter({ valued: '-r -I -C -E --encoding', inline: '-e' }, { clusters: true }),
  perl: interpreter({ valued: '-I', inline: '-e -E' }, { clusters: true }),
  php: interpreter({ valued: '-c -d -S -t -z', inline: '-r -B -R -E', file: '-f --file -F' }),
  java: interpreter(
    {
      valued:
        '-cp -classpath --class-path -p --module-path --upgrade-module-path --add-modules --add-opens --add-exports --add-reads --patch-module --limit-modules --enable-native-access --source',
      file: '-jar',
      module: '-m --module',
    },
    { bareIsModule: true },
  ),
  dotnet: interpreter({
    valued: '--fx-version --additionalprobingpath --depsfile --runtimeconfig --project',
    subcommands: 'exec run',
  }),
  lua: interpreter({ valued: '-l', inline: '-e' }),
  tclsh: interpreter({}),
  sh: shell,
  bash: shell,
  dash: shell,
  zsh: shell,
};

const aliases: Readonly<Record<string, string>> = {
  nodejs: 'node',
  pypy: 'python',
  luajit: 'lua',
  jruby: 'ruby',
};

/** Programs that are many programs: the name they were called by says which, also where another program has set only `argv[0]`. */
const multiCall = new Set(['busybox', 'toybox', 'coreutils']);

/** TASK_COMM_LEN of the kernel, without the NUL. */
const COMM_LENGTH = 15;

const scriptExtension = /\.(?:[cm]?[jt]sx?|pyc?|pyzw?|rb|pl|pm|psgi|php|phar|jar|war|dll|lua|tcl|sh|bash|zsh)$/;
const namesOfTheirDirectory = new Set(['index', '__main__']);
const directoriesWithoutMeaning = new Set(['dist', 'build', 'lib', 'src', 'out', 'bin', 'target', 'release', '.']);

const deletedMark = ' (deleted)';
const MAX_WORDS = 1000;
const MAX_NAME = 255;

/**
 * @param executable path of /proc/PID/exe, ` (deleted)` allowed; empty when not known
 * @param words the command line
 * @param directory the process's working directory, for a script named by a relative path; `undefined` when not known
 * @param comm of the main thread (proc_pid_comm(5)): at exec the name of the file that was called, at most 15 bytes; empty when not known
 * @returns the script's or module's name, else the executable's; empty when nothing is known
 */
export function programName(executable: string, words: readonly string[], directory?: string, comm = ''): string {
  const path = withoutDeletedMark(executable);
  const file = baseName(path).replace(/^memfd:/, '');
  if (isDynamicLoader(file)) return nameOfLoaded(words, directory) ?? file;
  if (multiCall.has(file)) return baseName(words[0] ?? '').replace(/^-/, '') || file;
  const rules = interpreterOf(file);
  if (rules === undefined) return nameOfCall(words, comm) ?? file;
  return nameFromTitle(words, file) ?? scriptName(rules, words.slice(0, MAX_WORDS), directory) ?? file;
}

export function withoutDeletedMark(path: string): string {
  return path.endsWith(deletedMark) ? path.slice(0, -deletedMark.length) : path;
}

export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/**
 * The name that the program was called by, where two witnesses agree: the kernel wrote it to comm, and the caller to `argv[0]`. A link's name
 * differs from its executable's; alone, either may be a title. A title may follow: `/usr/bin/server 127.0.0.1:6379`.
 */
function nameOfCall(words: readonly string[], comm: string): string | undefined {
  const called = baseName(/^[^\s:]+/.exec(words[0] ?? '')?.[0] ?? '');
  return called !== '' && called.slice(0, COMM_LENGTH) === comm ? called : undefined;
}

/** `python3.11`, `ruby3.1`, `node-24`, `php8.2`: the version is not part of the interpreter's name. */
function interpreterOf(file: string): Interpreter | undefined {
  // Longer than any file's name (NAME_MAX): a title, on which the pattern below would be tried at every digit.
  if (file.length > MAX_NAME) return undefined;
  const name = file.replace(/-?\d[\d.]*(?:-dbg|d|t)?$/, '');
  return interpreters[aliases[name] ?? name];
}

/** A program started through the dynamic loader: `/lib64/ld-linux-x86-64.so.2 [OPTIONS] PROGRAM ...` (ld.so(8)). */
function isDynamicLoader(file: string): boolean {
  return /^ld(?:-linux|-musl|64)?[\w.-]*\.so(?:\.\d+)?$/.test(file);
}

const loaderValued = new Set([
  '--library-path',
  '--preload',
  '--audit',
  '--argv0',
  '--inhibit-rpath',
  '--glibc-hwcaps-prepend',
]);

function nameOfLoaded(words: readonly string[], directory: string | undefined): string | undefined {
  for (let i = 1; i < words.length; i++) {
    const word = words[i]!;
    if (loaderValued.has(word)) i++;
    else if (!word.startsWith('-'))
      return isDynamicLoader(baseName(word)) ? undefined : programName(word, words.slice(i), directory);
  }
  return undefined;
}

/**
 * Servers write a title over their command line (`gunicorn: master [shop]`, `puma 6.4 (tcp://...)`, `npm start`): then it is one
 * word, which does not begin with the interpreter's name.
 */
function nameFromTitle(words: readonly string[], file: string): string | undefined {
  const title = words.length === 1 ? words[0]! : '';
  const first = /^([\w@][\w.@+-]*)(?::?\s.*)?$/s.exec(title)?.[1];
  return first === undefined || first === file || interpreterOf(first) !== undefined ? undefined : first;
}

function scriptName(rules: Interpreter, words: readonly string[], directory: string | undefined): string | undefined {
  for (let i = 1; i < words.length; i++) {
    const word = words[i]!;
    const isOption = /^[-+]./.test(word);
    if (!isOption) {
      if (rules.inline.has(word) || word === '-' || word === '') return undefined;
      if (rules.subcommands.has(word)) continue;
      return rules.bareIsModule ? moduleName(word) : nameOfScript(word, directory);
    }
    if (word === '--') return words[i + 1] === undefined ? undefined : nameOfScript(words[i + 1]!, directory);
    const { option, attached } = splitOption(rules, word);
    const value = attached ?? words[i + 1];
    if (rules.inline.has(option)) return undefined;
    if (rules.module.has(option)) return value === undefined ? undefined : moduleName(value);
    if (rules.file.has(option)) return value === undefined ? undefined : nameOfScript(value, directory);
    if (rules.valued.has(option) && attached === undefined) i++;
  }
  return undefined;
}

/** `--name=value` and, where letters share a word, `-uBm value`, `-mvalue`: the last option of the word and its value in it. */
function splitOption(rules: Interpreter, word: string): { option: string; attached: string | undefined } {
  if (word.startsWith('--')) {
    const equals = word.indexOf('=');
    return equals < 0
      ? { option: word, attached: undefined }
      : { option: word.slice(0, equals), attached: word.slice(equals + 1) };
  }
  if (!rules.clusters) return { option: word, attached: undefined };
  for (let i = 1; i < word.length; i++) {
    const option = `${word[0]}${word[i]}`;
    if (!rules.inline.has(option) && !rules.module.has(option) && !rules.valued.has(option)) continue;
    const rest = word.slice(i + 1);
    return { option, attached: rest === '' ? undefined : rest };
  }
  return { option: word, attached: undefined };
}

/** `http.server`, `com.acme.shop.Main`, `shop.module/com.acme.Main`, `uvicorn.__main__`. */
function moduleName(word: string): string | undefined {
  if (word.startsWith('@')) return undefined;
  const name = word.split('/')[0]!.replace(/\.__main__$/, '');
  return name === '' ? undefined : name;
}

function nameOfScript(script: string, directory: string | undefined): string | undefined {
  // Handed over as an open file: `bash <(...)`.
  if (script.startsWith('/dev/') || script.startsWith('/proc/')) return undefined;
  const absolute = script.startsWith('/') || directory === undefined ? script : `${directory}/${script}`;
  const parts = absolute.split('/').filter((part) => part !== '' && part !== '.');
  const last = parts.pop();
  if (last === undefined) return undefined;
  const name = last.replace(scriptExtension, '');
  if (!namesOfTheirDirectory.has(name)) return name === '' ? last : name;
  const meaningful = parts.findLast((part) => part !== '..' && !directoriesWithoutMeaning.has(part));
  return meaningful ?? name;
}
