import { basename } from 'node:path';
import type { ElfFile } from './elf.ts';
import type { Finding, ProbePlace, SecretProvider, Trace } from './provider.ts';
import * as list from './providers.ts';
import { SEARCH_BYTES } from './traces.ts';

/** A place that a provider found. */
export interface FoundPlace extends ProbePlace {
  readonly provider: SecretProvider;
}

/** What a file is to the taking of secrets. */
export type Judgement =
  /** It carries a library, or several, whose secrets are read: here is where to probe it. */
  | { readonly verdict: 'probe'; readonly library: string; readonly places: readonly FoundPlace[] }
  /** A TLS library that this version does not read secrets from. */
  | { readonly verdict: 'unsupported'; readonly library: string; readonly detail: string }
  /** Nothing of TLS was recognised. */
  | { readonly verdict: 'none' };

/** TLS libraries without a provider, by the name of their file. */
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

/** The same, by texts in an executable. They come before those of the providers, whose libraries such files hold besides. */
const TRACES: readonly Trace[] = [
  { marker: 'BoringSSL', pattern: /^BoringSSL/, library: 'BoringSSL' },
  { marker: 'AWS-LC', pattern: /^AWS-LC/, library: 'AWS-LC' },
  { marker: 'rustls', pattern: /^rustls/, library: 'rustls' },
];

/** What the places of a file cost: whether each is emulated. */
export function isCheap({ places }: { readonly places: readonly ProbePlace[] }): boolean {
  return places.every(({ emulated }) => emulated);
}

/** What TLS library a file carries, and where it is probed: by what all providers say of it, then by what is known of other libraries. */
export class Libraries {
  readonly providers: readonly SecretProvider[];

  constructor(providers: readonly SecretProvider[] = Object.values(list)) {
    this.providers = providers;
  }

  /** File names in a library folder that are worth a look before any process maps them. */
  isLibraryName(name: string): boolean {
    return this.providers.some((provider) => provider.isLibraryName(name));
  }

  /** Whether a file is a TLS library by its name alone. */
  isTlsByName(path: string): boolean {
    return this.isLibraryName(basename(path)) || unsupportedByName(path) !== undefined;
  }

  /**
   * Decides whether and where to probe a file.
   * @param path for its name only
   */
  judge(elf: ElfFile, path: string): Judgement {
    const exported = this.#ask((provider) => provider.recognise(elf, path));
    if (exported !== undefined) return exported;
    const known = unsupportedByName(path);
    if (known !== undefined) return { verdict: 'unsupported', ...known };
    const found = this.#ask((provider) => provider.search?.(elf, path));
    if (found !== undefined) return found;
    if (elf.isGo)
      return {
        verdict: 'unsupported',
        library: 'Go (crypto/tls)',
        detail: 'Go programs are not probed in this version',
      };
    return { verdict: 'none' };
  }

  /** The version of the first library of a file that is probed, such as `3.5.8`. Slow: may read the whole file. */
  versionOf(elf: ElfFile, judgement: Judgement): string | undefined {
    return judgement.verdict === 'probe' ? judgement.places[0]?.provider.versionOf(elf) : undefined;
  }

  /** A TLS library that an executable carries without symbols, by its strings. Slow: reads the whole file, several times. */
  traceOf(elf: ElfFile): string | undefined {
    const traces = [...TRACES, ...this.providers.flatMap((provider) => provider.traces)];
    return traces.find(({ marker, pattern }) => elf.findInData(marker, pattern, SEARCH_BYTES) !== undefined)?.library;
  }

  /** What the providers say: all places of those that can probe it, else the first that knows why it cannot. */
  #ask(question: (provider: SecretProvider) => Finding | undefined): Judgement | undefined {
    const names: string[] = [];
    const places: FoundPlace[] = [];
    let refused: Judgement | undefined;
    for (const provider of this.providers) {
      const finding = question(provider);
      if (finding?.verdict === 'probe') {
        names.push(finding.library);
        places.push(...finding.places.map((place) => ({ ...place, provider })));
      } else {
        refused ??= finding;
      }
    }
    return places.length > 0 ? { verdict: 'probe', library: names.join(', '), places } : refused;
  }
}

/** A TLS library that its file name alone identifies. */
function unsupportedByName(path: string): { library: string; detail: string } | undefined {
  const name = basename(path.replace(/ \(deleted\)$/, ''));
  const found = BY_NAME.find(([pattern]) => pattern.test(name));
  return found === undefined ? undefined : { library: found[1], detail: found[2] };
}
