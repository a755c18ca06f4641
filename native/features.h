// What the kernel can do, found out by doing it.
#pragma once

#include <string>

namespace wirespan {

// Tries one feature and takes it back at once. Names: ring_buffer, cgroup_skb, sock_create, raw_tp (cgroup_path is used
// by those of cgroups). Returns an empty string when it works, else why not.
std::string ProbeFeature(const std::string& name, const std::string& cgroup_path);

}  // namespace wirespan
