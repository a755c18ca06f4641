// Loads and attaches the capture programs. Everything it makes in the kernel hangs on file descriptors of this process:
// links, maps and programs vanish with them, or with the process however it ends.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "native/bpf_types.h"

struct bpf_object;
struct bpf_link;

namespace wirespan {

struct CaptureOptions {
  std::string object_path;  // capture.bpf.o
  std::string cgroup_path;
  bool whole_tree = true;          // cgroup_path is the root of the hierarchy
  uint32_t packet_ring_bytes = 0;  // a power of two, at least a page
  std::vector<uint16_t> excluded_ports;
};

struct ProgramStats {
  std::string name;
  uint32_t id = 0;
  uint64_t run_count = 0;
  uint64_t run_time_ns = 0;
};

class CaptureObject {
 public:
  CaptureObject() = default;
  ~CaptureObject() { Close(); }
  CaptureObject(const CaptureObject&) = delete;
  CaptureObject& operator=(const CaptureObject&) = delete;

  // Loads the programs into the kernel; nothing runs yet. Throws BpfError.
  void Load(const CaptureOptions& options);
  // Attaches them. Throws BpfError; what was attached until then goes with Close().
  void Attach();
  void Detach();
  void Close();

  // The socket's data is not wanted any more. Returns 0 or an errno.
  int Mute(uint64_t cookie);
  // The agent listens there: `address` as text, IPv4 or IPv6. Returns 0 or an errno.
  int IgnoreListener(const std::string& address, uint16_t port);
  // Sockets that are made in this cgroup from now on are of no interest, or are so again. @returns 0 or an errno
  int IgnoreCgroup(uint64_t id, bool ignored);
  // By LOSS_* of bpf/socket_state.h.
  std::vector<uint64_t> Losses() const;
  std::vector<ProgramStats> Programs() const;

  int packet_ring_fd() const { return packet_ring_fd_; }
  int control_ring_fd() const { return control_ring_fd_; }
  int secret_ring_fd() const { return secret_ring_fd_; }
  // The program that writes zeros into the ring of secrets.
  int wipe_program_fd() const { return wipe_program_fd_; }
  int socket_states_fd() const { return socket_states_fd_; }
  uint32_t agent_tgid() const;

 private:
  int ProgramFd(const char* name) const;
  void IdentifyAgent();

  bpf_object* object_ = nullptr;
  void* mapped_ = nullptr;  // the section with the programs' variables
  size_t mapped_bytes_ = 0;
  capture_globals* globals_ = nullptr;
  std::string cgroup_path_;
  int packet_ring_fd_ = -1;
  int control_ring_fd_ = -1;
  int secret_ring_fd_ = -1;
  int wipe_program_fd_ = -1;
  int socket_states_fd_ = -1;
  int muted_fd_ = -1;
  int own_listeners_fd_ = -1;
  int ignored_cgroups_fd_ = -1;
  int losses_fd_ = -1;
  std::vector<bpf_link*> links_;
};

// Lets BPF maps lock as much memory as they need: kernels before 5.11 count them against RLIMIT_MEMLOCK. Needs
// CAP_SYS_RESOURCE there.
void RaiseMemoryLimit();

// Switches the kernel's accounting of BPF run time on for as long as the descriptor is open. Throws BpfError.
int EnableBpfStats();

}  // namespace wirespan
