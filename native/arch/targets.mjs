/**
 * What of the build depends on the processor. bpf/arch/ has its registers, src/arch/ its instructions and its number in ELF files.
 *
 * @typedef {object} Target
 * @property {string} name for people
 * @property {boolean} supported everything is there: without it only the BPF objects can be compiled
 * @property {string} bpfDefine names the processor to bpf/arch/registers.h; the name is libbpf's
 * @property {string} headers folder of the C library's headers that differ between processors (asm/)
 * @property {string[]} cxxFlags of the addon
 */

/** By Node's name (process.arch). @type {Record<string, Target>} */
export const TARGETS = {
  x64: {
    name: 'x86-64',
    supported: true,
    bpfDefine: '__TARGET_ARCH_x86',
    headers: '/usr/include/x86_64-linux-gnu',
    cxxFlags: ['-fcf-protection'],
  },
  arm64: {
    name: 'arm64',
    supported: false,
    bpfDefine: '__TARGET_ARCH_arm64',
    headers: '/usr/include/aarch64-linux-gnu',
    cxxFlags: ['-mbranch-protection=standard'],
  },
};

/**
 * @param {string} [arch] as Node names it
 * @returns {Target} @throws {Error} for people, where Wirespan does not run
 */
export function targetOf(arch = process.arch) {
  const target = TARGETS[arch];
  if (target?.supported) return target;
  const names = Object.values(TARGETS).filter(({ supported }) => supported);
  throw new Error(
    `Wirespan runs on ${names.map(({ name }) => name).join(', ')} only; this Node is for ${target?.name ?? arch}`,
  );
}
