import { thisMachine } from '../../arch/machine.ts';
import { SECRET_TLS12_MASTER, SECRET_TLS13_EARLY, SECRET_TLS13_HANDSHAKE } from '../../capture/records.ts';
import type { ElfFile, ElfSymbol } from '../elf.ts';
import type { Finding, SecretProvider } from '../provider.ts';
import { SEARCH_BYTES } from '../traces.ts';

/** Every secret of TLS is derived by it, with arguments that are public ABI: see openssl.bpf.c. */
const DERIVE = 'EVP_KDF_derive';
/** OpenSSL 3 has these too; the function of the same name in Red Hat's 1.1.1 has another signature and comes without them. */
const COMPANIONS = ['EVP_KDF_fetch', 'OSSL_PARAM_construct_utf8_string'] as const;

/** Version nodes of libcrypto: `OPENSSL_3.0.0`, in private builds also with a word between; 1.1.1 has `OPENSSL_1_1_0`. */
const VERSION_NODE = /^OPENSSL\w*?_(\d+)[._]/;

const PROGRAM = 'wirespan_kdf';
/** The context, the output, its length, the parameters, of which the program reads the last two. */
const READS = { arguments: 4 } as const;

/** `undefined`: OpenSSL 3 or later; else why it is not. */
function refusal(symbol: ElfSymbol, has: (name: string) => boolean): string | undefined {
  if (symbol.version !== undefined) {
    const major = VERSION_NODE.exec(symbol.version)?.[1];
    if (major !== undefined && Number(major) >= 3) return undefined;
    return `${DERIVE} of version ${symbol.version} has another signature`;
  }
  const missing = COMPANIONS.find((name) => !has(name));
  return missing === undefined ? undefined : `${DERIVE} without ${missing} is not OpenSSL 3`;
}

function placed(elf: ElfFile, { address, size }: ElfSymbol): Finding {
  const machine = thisMachine();
  const site = machine.chooseProbeSite(elf.codeAt(address, machine.prologueBytes), READS, size);
  const fileOffset = elf.codeOffset(address);
  if (site === undefined || fileOffset === undefined) {
    return { verdict: 'unsupported', library: 'OpenSSL', detail: `${DERIVE} does not begin with an instruction` };
  }
  const place = { program: PROGRAM, fileOffset: fileOffset + site.offset, emulated: site.emulated };
  return { verdict: 'probe', library: 'OpenSSL 3', places: [place] };
}

/** OpenSSL 3.0 to 4.0, shared or linked statically with symbols. */
export const openssl: SecretProvider = {
  name: 'openssl',
  library: 'OpenSSL',
  programs: [PROGRAM],
  secrets: [SECRET_TLS13_HANDSHAKE, SECRET_TLS13_EARLY, SECRET_TLS12_MASTER],

  /** Also with a hash as Python wheels have it. */
  isLibraryName(name) {
    return /^libcrypto[-.].*\.so\b|^libcrypto\.so\b/.test(name);
  },

  recognise(elf) {
    const symbol = elf.dynamicFunction(DERIVE);
    if (symbol === undefined) return undefined;
    const reason = refusal(symbol, (name) => elf.dynamicFunction(name) !== undefined);
    return reason === undefined
      ? placed(elf, symbol)
      : { verdict: 'unsupported', library: 'OpenSSL 1', detail: reason };
  },

  search(elf) {
    const local = elf.staticFunctions([DERIVE, ...COMPANIONS]);
    const symbol = local.get(DERIVE);
    if (symbol === undefined) return undefined;
    const reason = refusal(symbol, (name) => local.has(name));
    return reason === undefined ? placed(elf, symbol) : { verdict: 'unsupported', library: 'OpenSSL', detail: reason };
  },

  versionOf(elf) {
    return elf.findInData('OpenSSL ', /^OpenSSL (\d+\.\d+\.\d+\S*) +\d+ \w+ \d{4}/, SEARCH_BYTES)?.[1];
  },

  traces: [{ marker: 'OpenSSL ', pattern: /^OpenSSL \d+\.\d+\.\d+/, library: 'OpenSSL without symbols' }],
};
