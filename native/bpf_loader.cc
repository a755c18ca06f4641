#include "native/bpf_loader.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>

#include "native/bpf_log.h"
#include "native/bpf_object.h"

namespace wirespan {

void RaiseMemoryLimit() {
  rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);  // where it fails and matters, making the maps fails and says so
  libbpf_set_memlock_rlim(0);             // libbpf need not try again
}

int EnableBpfStats() {
  int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
  if (fd < 0) throw BpfError("cannot switch on the kernel's BPF statistics", fd);
  return fd;
}

int CaptureObject::ProgramFd(const char* name) const {
  bpf_program* program = bpf_object__find_program_by_name(object_, name);
  if (program == nullptr) throw BpfError(std::string("the BPF object has no program ") + name, ENOENT);
  return bpf_program__fd(program);
}

void CaptureObject::Load(const CaptureOptions& options) {
  CaptureBpfLog();
  RaiseMemoryLimit();
  cgroup_path_ = options.cgroup_path;
  object_ = bpf_object__open_file(options.object_path.c_str(), nullptr);
  if (object_ == nullptr) throw BpfError("cannot open " + options.object_path, errno);

  int error = bpf_map__set_max_entries(RequireRing(object_, "packet_ring"), options.packet_ring_bytes);
  if (error != 0) throw BpfError("cannot set the size of the packet ring", error);
  SetConstant<uint8_t>(object_, "whole_tree", options.whole_tree ? 1 : 0);
  SetConstant<uint8_t>(object_, "has_excluded_ports", options.excluded_ports.empty() ? 0 : 1);
  const BpfVariable globals = RequireVariable(object_, ".bss", "globals", sizeof *globals_);
  uint64_t port_words[1024] = {};
  bpf_map* maps[] = {
      RequireRing(object_, "control_ring"),
      RequireRing(object_, "secret_ring"),
      RequireMap(object_, "socket_states", sizeof(int), sizeof(socket_state)),
      RequireMap(object_, "muted", sizeof(uint64_t), sizeof(uint8_t)),
      RequireMap(object_, "own_listeners", sizeof(flow_key), sizeof(uint8_t)),
      RequireMap(object_, "ignored_cgroups", sizeof(uint64_t), sizeof(uint8_t)),
      RequireMap(object_, "losses", sizeof(uint32_t), sizeof(uint64_t)),
      RequireMap(object_, "excluded_ports", sizeof(uint32_t), sizeof port_words),
  };

  error = LoadObject(object_);
  if (error != 0) throw BpfError("cannot load the capture programs into the kernel", error);

  mapped_bytes_ = globals.section_size;
  void* mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(globals.map), 0);
  if (mapped == MAP_FAILED) throw BpfError("cannot map the variables of the capture programs", errno);
  mapped_ = mapped;
  globals_ = reinterpret_cast<capture_globals*>(static_cast<uint8_t*>(mapped) + globals.offset);
  packet_ring_fd_ = bpf_object__find_map_fd_by_name(object_, "packet_ring");
  int* const fds[] = {&control_ring_fd_,  &secret_ring_fd_,     &socket_states_fd_, &muted_fd_,
                      &own_listeners_fd_, &ignored_cgroups_fd_, &losses_fd_};
  for (size_t i = 0; i < std::size(fds); i++) *fds[i] = bpf_map__fd(maps[i]);
  wipe_program_fd_ = ProgramFd("wipe_secrets");

  if (!options.excluded_ports.empty()) {
    for (uint16_t port : options.excluded_ports) port_words[port >> 6] |= uint64_t{1} << (port & 63);
    uint32_t zero = 0;
    error = bpf_map_update_elem(bpf_map__fd(maps[std::size(fds)]), &zero, port_words, BPF_ANY);
    if (error != 0) throw BpfError("cannot set the excluded ports", error);
  }
  IdentifyAgent();
}

// Asks the kernel which process this is: inside a pid namespace getpid() is another number than the programs see.
void CaptureObject::IdentifyAgent() {
  LIBBPF_OPTS(bpf_test_run_opts, run);
  int error = bpf_prog_test_run_opts(ProgramFd("identify_agent"), &run);
  if (error != 0 || globals_->agent_tgid == 0)
    throw BpfError("cannot tell the agent's own process to the kernel", error);
}

void CaptureObject::Attach() {
  int cgroup = open(cgroup_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (cgroup < 0) throw BpfError("cannot open the cgroup " + cgroup_path_, errno);
  // The packet programs last: by then the owners of new sockets are known.
  const char* const names[] = {"process_exec", "socket_create", "packet_ingress", "packet_egress"};
  for (const char* name : names) {
    bpf_program* program = bpf_object__find_program_by_name(object_, name);
    errno = ENOENT;
    bpf_link* link = nullptr;
    if (program != nullptr) {
      link = bpf_program__type(program) == BPF_PROG_TYPE_RAW_TRACEPOINT ? bpf_program__attach(program)
                                                                        : bpf_program__attach_cgroup(program, cgroup);
    }
    if (link == nullptr) {
      int error = errno;
      close(cgroup);
      throw BpfError(std::string("cannot attach the program ") + name + " to " + cgroup_path_, error);
    }
    links_.push_back(link);
  }
  close(cgroup);
}

void CaptureObject::Detach() {
  for (auto link = links_.rbegin(); link != links_.rend(); ++link) bpf_link__destroy(*link);
  links_.clear();
}

void CaptureObject::Close() {
  Detach();
  bpf_object__close(object_);
  object_ = nullptr;
  if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
  mapped_ = nullptr;
  globals_ = nullptr;
  packet_ring_fd_ = control_ring_fd_ = secret_ring_fd_ = wipe_program_fd_ = socket_states_fd_ = muted_fd_ =
      own_listeners_fd_ = ignored_cgroups_fd_ = losses_fd_ = -1;
}

int CaptureObject::Mute(uint64_t cookie) {
  if (globals_ == nullptr) return EBADF;
  uint8_t one = 1;
  if (bpf_map_update_elem(muted_fd_, &cookie, &one, BPF_ANY) != 0) return errno;
  __atomic_fetch_add(&globals_->mute_generation, 1, __ATOMIC_RELEASE);  // sockets look only now
  return 0;
}

int CaptureObject::IgnoreListener(const std::string& address, uint16_t port) {
  flow_key key{};
  uint8_t bytes[sizeof key.local] = {};
  std::string text = address.substr(0, address.find('%'));
  if (inet_pton(AF_INET, text.c_str(), bytes + 12) == 1) {
    bytes[10] = bytes[11] = 0xff;
  } else if (inet_pton(AF_INET6, text.c_str(), bytes) != 1) {
    return EINVAL;
  }
  memcpy(key.local, bytes, sizeof bytes);
  key.local_port = htons(port);
  in6_addr local;
  memcpy(&local, bytes, sizeof local);
  if (IN6_IS_ADDR_LOOPBACK(&local) || (IN6_IS_ADDR_V4MAPPED(&local) && bytes[12] == 127)) {
    struct stat network;
    if (stat("/proc/self/ns/net", &network) != 0) return errno;
    key.scope = static_cast<uint32_t>(network.st_ino);
  }
  uint8_t one = 1;
  return bpf_map_update_elem(own_listeners_fd_, &key, &one, BPF_ANY) == 0 ? 0 : errno;
}

int CaptureObject::IgnoreCgroup(uint64_t id, bool ignored) {
  if (globals_ == nullptr) return EBADF;
  uint8_t one = 1;
  int error = ignored ? bpf_map_update_elem(ignored_cgroups_fd_, &id, &one, BPF_NOEXIST)
                      : bpf_map_delete_elem(ignored_cgroups_fd_, &id);
  if (error != 0) return errno == EEXIST || errno == ENOENT ? 0 : errno;
  // The programs look only while there are any.
  __atomic_fetch_add(&globals_->ignored_cgroups, ignored ? 1 : -1, __ATOMIC_RELEASE);
  return 0;
}

std::vector<uint64_t> CaptureObject::Losses() const {
  std::vector<uint64_t> totals(LOSS_COUNT);
  if (losses_fd_ < 0) return totals;
  std::vector<uint64_t> by_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t reason = 0; reason < LOSS_COUNT; reason++) {
    if (bpf_map_lookup_elem(losses_fd_, &reason, by_cpu.data()) != 0) continue;
    for (uint64_t count : by_cpu) totals[reason] += count;
  }
  return totals;
}

std::vector<ProgramStats> CaptureObject::Programs() const {
  std::vector<ProgramStats> all;
  if (object_ == nullptr) return all;
  bpf_program* program;
  bpf_object__for_each_program(program, object_) {
    bpf_prog_info info{};
    uint32_t length = sizeof info;
    if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length) != 0) continue;
    all.push_back({bpf_program__name(program), info.id, info.run_cnt, info.run_time_ns});
  }
  return all;
}

uint32_t CaptureObject::agent_tgid() const { return globals_ == nullptr ? 0 : globals_->agent_tgid; }

}  // namespace wirespan
