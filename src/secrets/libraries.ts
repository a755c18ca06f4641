import { basename } from 'node:path';
import type { ElfFile, ElfSymbol } from './elf.ts';
import { chooseProbeSite, PROLOGUE_BYTES } from './probe-site.ts';

/** What a file is to the taking of secrets. */
export type Judgement =
  /** It carries OpenSSL 3 or later: here is where to probe it. */
  | { verdict: 'probe'; library: string; fileOffset: number; emulated: boolean }
  /** A TLS library that this version does not read secrets from. */
  | { verdict: 'unsupported'; library: string; detail: string }
  /** Nothing of TLS was recognised. */
  | { verdict: 'none' };

const DERIVE = 'EVP_KDF_derive';
/** OpenSSL 3 has these too; the function of the same name in Red Hat's 1.1.1 has another signature and comes without them. */
const COMPANIONS = ['EVP_KDF_fetch', 'OSSL_PARAM_construct_utf8_string'] as const;

/** Version nodes of libcrypto: `OPENSSL_3.0.0`, in private builds also with a word between; 1.1.1 has `OPENSSL_1_1_0`. */
const VERSION_NODE = /^OPENSSL\w*?_(\d+)[._]/;

/** TLS libraries by the name of their file. libcrypto of OpenSSL 3 is not here: its symbols decide. */
const BY_NAME: readonly [RegExp, string, string][] = [
  [/^lib(ssl|crypto)[-.\w]*\.so\.1\.[01]/, 'OpenSSL 1', 'OpenSSL before 3.0 is not probed in this version'],
  [/^libgnutls[-.\w]*\.so/, 'GnuTLS', 'GnuTLS is not probed in this version'],
  [/^lib(ssl3|nss3)\.so/, 'NSS', 'NSS passes no secret through an exported function'],
  [/^libwolfssl[-.\w]*\.so/, 'wolfSSL', 'wolfSSL is not probed in this version'],
  [/^libmbedtls[-.\w]*\.so/, 'Mbed TLS', 'Mbed TLS is not probed in this version'],
  [/^libs2n[-.\w]*\.so/, 's2n-tls', 's2n-tls is not probed in this version'],
  [/^libjvm\.so/, 'Java (JSSE)', 'the Java virtual machine has no native function that sees the secrets'],
  [/^cygrpc\b.*\.so/, 'BoringSSL (gRPC)', 'BoringSSL without symbols is not probed'],
];

/** A TLS library that can be told from its file name alone. */
export function unsupportedByName(path: string): { library: string; detail: string } | undefined {
  const name = basename(path.replace(/ \(deleted\)$/, ''));
  const found = BY_NAME.find(([pattern]) => pattern.test(name));
  return found === undefined ? undefined : { library: found[1], detail: found[2] };
}

/** File names in a library folder that are worth a look before any process maps them, also with a hash as Python wheels have it. */
export function isCryptoLibraryName(name: string): boolean {
  return /^libcrypto[-.].*\.so\b|^libcrypto\.so\b/.test(name);
}

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

function placed(elf: ElfFile, symbol: ElfSymbol): Judgement {
  const site = chooseProbeSite(elf.codeAt(symbol.address, PROLOGUE_BYTES), symbol.size);
  const fileOffset = elf.codeOffset(symbol.address);
  if (site === undefined || fileOffset === undefined) {
    return { verdict: 'unsupported', library: 'OpenSSL', detail: `${DERIVE} does not begin with an instruction` };
  }
  return { verdict: 'probe', library: 'OpenSSL 3', fileOffset: fileOffset + site.offset, emulated: site.emulated };
}

/**
 * Decides by a file's symbols whether and where to probe it; by its name which other library it is.
 * @param path for its name only
 */
export function judge(elf: ElfFile, path: string): Judgement {
  const exported = elf.dynamicFunction(DERIVE);
  if (exported !== undefined) {
    const reason = refusal(exported, (name) => elf.dynamicFunction(name) !== undefined);
    if (reason === undefined) return placed(elf, exported);
    return { verdict: 'unsupported', library: 'OpenSSL 1', detail: reason };
  }
  const known = unsupportedByName(path);
  if (known !== undefined) return { verdict: 'unsupported', ...known };
  const local = elf.staticFunctions([DERIVE, ...COMPANIONS]);
  const symbol = local.get(DERIVE);
  if (symbol !== undefined) {
    const reason = refusal(symbol, (name) => local.has(name));
    return reason === undefined ? placed(elf, symbol) : { verdict: 'unsupported', library: 'OpenSSL', detail: reason };
  }
  if (elf.isGo)
    return { verdict: 'unsupported', library: 'Go (crypto/tls)', detail: 'Go programs are not probed in this version' };
  return { verdict: 'none' };
}

/** How much of a file is looked through for a version or the traces of a library; tens of milliseconds. */
const SEARCH_BYTES = 128 * 1024 * 1024;

/** The OpenSSL version that a file says it is, such as `3.5.8`. Slow: reads the whole file. */
export function openSslVersion(elf: ElfFile): string | undefined {
  return elf.findInData('OpenSSL ', /^OpenSSL (\d+\.\d+\.\d+\S*) +\d+ \w+ \d{4}/, SEARCH_BYTES)?.[1];
}

const TRACES: readonly [string, RegExp, string][] = [
  ['BoringSSL', /^BoringSSL/, 'BoringSSL'],
  ['AWS-LC', /^AWS-LC/, 'AWS-LC'],
  ['rustls', /^rustls/, 'rustls'],
  ['OpenSSL ', /^OpenSSL \d+\.\d+\.\d+/, 'OpenSSL without symbols'],
];

/** A TLS library that an executable carries without symbols, by its strings. Slow: reads the whole file, several times. */
export function libraryByStrings(elf: ElfFile): string | undefined {
  return TRACES.find(([marker, pattern]) => elf.findInData(marker, pattern, SEARCH_BYTES) !== undefined)?.[2];
}
