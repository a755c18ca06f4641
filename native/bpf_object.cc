#include "native/bpf_object.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <cerrno>
#include <cstring>

#include "native/bpf_log.h"

namespace wirespan {
namespace {

[[noreturn]] void Refuse(const std::string& what) {
  throw BpfError("the BPF object and the addon are not of one build: " + what, EINVAL);
}

// The map of a section: its name is the object's, cut, and the section's.
bpf_map* MapOfSection(bpf_object* object, const char* section) {
  bpf_map* map;
  bpf_object__for_each_map(map, object) {
    if (std::string(bpf_map__name(map)).ends_with(section)) return map;
  }
  return nullptr;
}

}  // namespace

bpf_map* RequireMap(bpf_object* object, const char* name, size_t key_size, size_t value_size) {
  bpf_map* map = bpf_object__find_map_by_name(object, name);
  if (map == nullptr) Refuse(std::string("no map ") + name);
  if (bpf_map__key_size(map) != key_size || bpf_map__value_size(map) != value_size)
    Refuse(std::string("the sizes of map ") + name);
  return map;
}

bpf_map* RequireRing(bpf_object* object, const char* name) {
  bpf_map* map = RequireMap(object, name, 0, 0);
  if (bpf_map__type(map) != BPF_MAP_TYPE_RINGBUF) Refuse(std::string("the type of map ") + name);
  return map;
}

BpfVariable RequireVariable(bpf_object* object, const char* section, const char* name, size_t size) {
  const btf* types = bpf_object__btf(object);
  bpf_map* map = MapOfSection(object, section);
  int id = types == nullptr ? -1 : btf__find_by_name_kind(types, section, BTF_KIND_DATASEC);
  if (map == nullptr || id < 0) Refuse(std::string("no section ") + section);
  const btf_type* data = btf__type_by_id(types, static_cast<uint32_t>(id));
  const btf_var_secinfo* variables = btf_var_secinfos(data);
  for (uint16_t i = 0; i < btf_vlen(data); i++) {
    const btf_type* variable = btf__type_by_id(types, variables[i].type);
    if (variable == nullptr || strcmp(btf__name_by_offset(types, variable->name_off), name) != 0) continue;
    uint32_t offset = variables[i].offset;
    if (variables[i].size != size || offset > bpf_map__value_size(map) || bpf_map__value_size(map) - offset < size) {
      Refuse(std::string("the size of ") + name);
    }
    return {map, offset, bpf_map__value_size(map)};
  }
  Refuse(std::string("no variable ") + name);
}

void SetConstantBytes(bpf_object* object, const char* name, const void* value, size_t size) {
  BpfVariable variable = RequireVariable(object, ".rodata", name, size);
  size_t length = 0;
  // What is set here is the object's own copy until it is loaded.
  auto* initial = static_cast<uint8_t*>(const_cast<void*>(bpf_map__initial_value(variable.map, &length)));
  if (initial == nullptr || length < variable.offset + size) Refuse(std::string("no value of ") + name);
  memcpy(initial + variable.offset, value, size);
}

}  // namespace wirespan
