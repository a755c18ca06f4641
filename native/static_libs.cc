// What lets the distributions' static libbpf and libelf go into a shared object, for which they were not built (no
// -fPIC). Two things in them cannot, and are replaced here; both files belong to the addon's build (native/build.mjs).
#include <cstdio>

#undef stderr

extern "C" {

// Instead of elf_error.o of libelf.a, which has a thread-local variable. Same functions (libelf.h); libelf is used by
// one thread.
static int last_error;

__attribute__((visibility("hidden"))) void __libelf_seterrno(int value) { last_error = value; }

__attribute__((visibility("hidden"))) int elf_errno(void) {
  int value = last_error;
  last_error = 0;
  return value;
}

__attribute__((visibility("hidden"))) const char* elf_errmsg(int) { return "not a readable ELF file"; }

// libbpf.a reads `stderr` as a variable near to its code; the linker's --wrap=stderr turns that into this one.
extern FILE* __real_stderr;
__attribute__((visibility("hidden"))) FILE* __wrap_stderr = nullptr;

__attribute__((constructor)) static void set_stderr() { __wrap_stderr = __real_stderr; }
}
