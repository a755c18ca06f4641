// The maps and variables of a BPF object, each by its name and with the size that was compiled in here. The kernel
// copies values of the size that the object says: where the two differ, the object is of another build and is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

struct bpf_map;
struct bpf_object;

namespace wirespan {

// A map with keys and values of these sizes. Throws BpfError.
bpf_map* RequireMap(bpf_object* object, const char* name, size_t key_size, size_t value_size);
// A ring buffer. Throws BpfError.
bpf_map* RequireRing(bpf_object* object, const char* name);

// A variable of the programs, found by its name in the object's BTF.
struct BpfVariable {
  bpf_map* map;     // of its section
  uint32_t offset;  // in the map's only value
  uint32_t section_size;
};
// `section`: ".bss" or ".rodata". Throws BpfError when it is not there or has another size.
BpfVariable RequireVariable(bpf_object* object, const char* section, const char* name, size_t size);

// Sets a constant of the programs, before they are loaded. Throws BpfError.
template <typename T>
void SetConstant(bpf_object* object, const char* name, const T& value);
void SetConstantBytes(bpf_object* object, const char* name, const void* value, size_t size);
template <typename T>
void SetConstant(bpf_object* object, const char* name, const T& value) {
  SetConstantBytes(object, name, &value, sizeof value);
}

}  // namespace wirespan
