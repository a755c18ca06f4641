// Finds the owners of the TCP sockets that exist already and writes them into socket storage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "native/bpf_types.h"

namespace wirespan {

// By the iterator in scan.bpf.o: all processes, all network namespaces. Throws BpfError where the kernel has no such
// iterator.
std::vector<socket_record> ScanByIterator(const std::string& object_path, int socket_states_fd, uint32_t agent_tgid);

// The same from user space, for kernels whose iterators cannot (5.10): borrows a copy of each socket by pidfd_getfd(2),
// which needs CAP_SYS_PTRACE, and closes it at once. Throws BpfError when not even the own process can be looked at.
std::vector<socket_record> ScanByDescriptors(int socket_states_fd, uint32_t agent_tgid);

}  // namespace wirespan
