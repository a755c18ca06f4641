#include "native/socket_scan.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>

#include "native/bpf_log.h"
#include "native/bpf_object.h"
#include "native/descriptor.h"

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C  // linux/sockios.h: a descriptor of the socket's network namespace
#endif

namespace wirespan {
namespace {

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
struct LinkCloser {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};

struct DirectoryCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

bool IsNumber(const char* name) { return *name >= '1' && *name <= '9'; }

// Start time and command of a process from /proc/PID/stat: field 22 counts clock ticks since boot, coarser than the
// kernel's own number.
bool ReadProcess(uint32_t tgid, socket_state* state) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%u/stat", tgid);
  FILE* file = fopen(path, "re");
  if (file == nullptr) return false;
  char text[2048];
  size_t length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[length] = 0;
  char* open = strchr(text, '(');
  char* close = strrchr(text, ')');  // the command itself may hold parentheses
  if (open == nullptr || close == nullptr || close < open) return false;
  size_t comm = static_cast<size_t>(close - open - 1);
  memcpy(state->comm, open + 1, comm < COMM_LENGTH - 1 ? comm : COMM_LENGTH - 1);
  unsigned long long ticks = 0;
  const char* field = close + 1;
  for (int number = 3; number <= 22 && field != nullptr; number++) {
    field = strchr(field, ' ');
    if (field != nullptr) field++;
  }
  if (field == nullptr || sscanf(field, "%llu", &ticks) != 1) return false;
  state->process_start_ns = ticks * (1'000'000'000ull / static_cast<unsigned long long>(sysconf(_SC_CLK_TCK)));
  state->tgid = tgid;
  return true;
}

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

bool IsTcp(int fd) {
  int domain = SocketOption(fd, SO_DOMAIN);
  return (domain == AF_INET || domain == AF_INET6) && SocketOption(fd, SO_TYPE) == SOCK_STREAM &&
         SocketOption(fd, SO_PROTOCOL) == IPPROTO_TCP;
}

uint32_t NamespaceOf(int fd) {
  Descriptor ns(ioctl(fd, SIOCGSKNS));
  struct stat status;
  return ns.ok() && fstat(ns.get(), &status) == 0 ? static_cast<uint32_t>(status.st_ino) : 0;
}

// Inode number of the process's cgroup v2 directory is not looked up here: packets bring the socket's cgroup.
void ScanProcess(uint32_t tgid, int states_fd, uint32_t agent_tgid, std::vector<socket_record>* found) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%u/fd", tgid);
  Directory directory(opendir(path));
  if (!directory) return;  // it has ended
  Descriptor process(static_cast<int>(syscall(SYS_pidfd_open, tgid, 0)));
  socket_state owner{};
  if (!process.ok() || !ReadProcess(tgid, &owner)) return;

  while (dirent* entry = readdir(directory.get())) {
    if (!IsNumber(entry->d_name) && entry->d_name[0] != '0') continue;
    char target[64];
    ssize_t length = readlinkat(dirfd(directory.get()), entry->d_name, target, sizeof target);
    if (length < 8 || memcmp(target, "socket:[", 8) != 0) continue;
    Descriptor socket(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), atoi(entry->d_name), 0)));
    if (!socket.ok() || !IsTcp(socket.get())) continue;

    socket_state state = owner;
    int fd = socket.get();
    socket_state existing;
    if (bpf_map_lookup_elem(states_fd, &fd, &existing) == 0) {
      // As in scan.bpf.c: the eldest owns it, but not a service manager that passed it on.
      bool manager = existing.tgid == 1 && tgid != 1 && !(existing.flags & STATE_OWNER_CONFIRMED);
      if ((existing.flags & STATE_OWNER_KNOWN) && !manager) continue;
      state = existing;
      state.tgid = owner.tgid;
      state.process_start_ns = owner.process_start_ns;
      memcpy(state.comm, owner.comm, COMM_LENGTH);
    }
    state.netns = NamespaceOf(fd);
    state.flags |= STATE_OWNER_KNOWN | (tgid == agent_tgid ? STATE_OWN : 0);
    if (bpf_map_update_elem(states_fd, &fd, &state, BPF_ANY) != 0) continue;

    socket_record record{};
    socklen_t size = sizeof record.cookie;
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &record.cookie, &size) != 0) continue;
    record.header.length = sizeof record;
    record.header.type = RECORD_SOCKET;
    record.header.flags = SOCKET_OWNER_KNOWN | (tgid == agent_tgid ? SOCKET_OWN : 0);
    timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    record.header.time_ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
    record.process_start_ns = state.process_start_ns;
    record.tgid = state.tgid;
    record.netns = state.netns;
    memcpy(record.comm, state.comm, COMM_LENGTH);
    found->push_back(record);
  }
}

}  // namespace

std::vector<socket_record> ScanByIterator(const std::string& object_path, int socket_states_fd, uint32_t agent_tgid) {
  CaptureBpfLog();
  std::unique_ptr<bpf_object, ObjectCloser> object(bpf_object__open_file(object_path.c_str(), nullptr));
  if (!object) throw BpfError("cannot open " + object_path, errno);
  bpf_map* states = RequireMap(object.get(), "socket_states", sizeof(int), sizeof(socket_state));
  SetConstant(object.get(), "agent_tgid", agent_tgid);
  int error = bpf_map__reuse_fd(states, socket_states_fd);
  if (error != 0) throw BpfError("cannot share the socket storage with the socket scan", error);
  error = LoadObject(object.get());
  if (error != 0) throw BpfError("the kernel does not take the socket iterator", error);
  bpf_program* program = bpf_object__find_program_by_name(object.get(), "scan_sockets");
  std::unique_ptr<bpf_link, LinkCloser> link(program == nullptr ? nullptr : bpf_program__attach_iter(program, nullptr));
  if (!link) throw BpfError("cannot attach the socket iterator", errno);
  Descriptor iterator(bpf_iter_create(bpf_link__fd(link.get())));
  if (!iterator.ok()) throw BpfError("cannot run the socket iterator", errno);

  std::vector<socket_record> found;
  std::vector<uint8_t> pending;
  uint8_t buffer[16 * sizeof(socket_record)];
  for (;;) {
    ssize_t length = read(iterator.get(), buffer, sizeof buffer);
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (length < 0) throw BpfError("the socket iterator failed", errno);
    if (length == 0) break;
    pending.insert(pending.end(), buffer, buffer + length);
    size_t whole = pending.size() / sizeof(socket_record);
    for (size_t i = 0; i < whole; i++) {
      socket_record record;
      memcpy(&record, pending.data() + i * sizeof record, sizeof record);
      if (record.header.length != sizeof record)
        throw BpfError("the records of the socket iterator are of another build", EINVAL);
      found.push_back(record);
    }
    pending.erase(pending.begin(), pending.begin() + static_cast<ptrdiff_t>(whole * sizeof(socket_record)));
  }
  return found;
}

std::vector<socket_record> ScanByDescriptors(int socket_states_fd, uint32_t agent_tgid) {
  Directory proc(opendir("/proc"));
  if (!proc) throw BpfError("cannot read /proc", errno);
  Descriptor self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!self.ok()) throw BpfError("cannot look at the sockets of processes (pidfd_open)", errno);
  std::vector<socket_record> found;
  while (dirent* entry = readdir(proc.get())) {
    if (!IsNumber(entry->d_name)) continue;
    ScanProcess(static_cast<uint32_t>(strtoul(entry->d_name, nullptr, 10)), socket_states_fd, agent_tgid, &found);
  }
  return found;
}

}  // namespace wirespan
