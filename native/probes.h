// Uprobes for TLS secrets: loads the object of one provider (src/secrets/NAME/NAME.bpf.c) and attaches its programs to
// files. Knows nothing of JavaScript.
#pragma once

#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "native/bpf_types.h"

struct bpf_object;
struct ring_buffer;

namespace wirespan {

// What went wrong, for people: what failed, errno's text and what to do.
struct ProbeError {
  int code;  // errno
  std::string message;
};

struct ProbeOptions {
  std::string object_path;
  std::vector<std::string> programs;  // of the object, at least one
  int secret_ring_fd = -1;            // the map that secrets are written to; -1: a ring of their own, read by Drain()
  bool allow_multi = true;            // false: only perf_event_open, for tests of the older way
  bool allow_sleepable = true;        // false: for tests of the older way
};

struct ProbeProgram {
  std::string name;
  uint32_t id;
  uint64_t run_count;  // 0 unless kernel.bpf_stats_enabled
  uint64_t run_time_ns;
};

class Probes {
 public:
  // @throws ProbeError
  static std::unique_ptr<Probes> Open(const ProbeOptions& options);
  ~Probes();
  Probes(const Probes&) = delete;
  Probes& operator=(const Probes&) = delete;

  // One uprobe at `file_offset` of the file at `path`, for all processes, that runs the program of that name.
  // @returns its id @throws ProbeError
  uint32_t Attach(const std::string& program, const std::string& path, uint64_t file_offset, uint64_t cookie);
  // Takes it off again, on a thread of its own: the kernel waits for grace periods, up to 100 ms. @returns whether
  // there was one
  bool Detach(uint32_t id);
  size_t attached() const { return attached_.size(); }
  // The links by BPF_LINK_CREATE with BPF_TRACE_UPROBE_MULTI, else perf_event_open.
  bool multi() const { return features_.multi; }
  // Whether a record's `library` is the attach cookie; else it is 0.
  bool cookies() const { return features_.cookies; }
  // Whether the program may wait for a page of the traced process that is not in memory; else what stands there is
  // lost, and counted.
  bool sleepable() const { return features_.sleepable; }
  secret_losses Counts() const;
  std::vector<ProbeProgram> Programs() const;
  // Whole records of the ring of its own, one after the other; nothing when the ring is someone else's.
  std::vector<uint8_t> Drain();

 private:
  struct Attachment {
    int link_fd = -1;
    int perf_fd = -1;
  };
  Probes() = default;
  // What the program uses of the kernel, the oldest last: sleepable programs came with 6.0, cookies with 5.15, multi
  // links with 6.6.
  struct Features {
    bool multi;
    bool cookies;
    bool sleepable;
  };
  // @returns 0 or errno, with the log's end in `log`
  int Load(const ProbeOptions& options, const Features& features, std::string* log);
  bool LinksMulti() const;
  Attachment AttachMulti(int program_fd, const std::string& path, uint64_t file_offset, uint64_t cookie) const;
  Attachment AttachPerf(int program_fd, const std::string& path, uint64_t file_offset, uint64_t cookie) const;
  void Release(const Attachment& attachment);
  // Takes all off, all at once, and waits for it.
  void Close();

  bpf_object* object_ = nullptr;
  ring_buffer* ring_ = nullptr;
  std::vector<uint8_t> drained_;
  std::map<std::string, int> program_fds_;
  int losses_fd_ = -1;
  uint32_t losses_offset_ = 0;
  uint32_t losses_section_bytes_ = 0;
  Features features_ = {};
  uint32_t next_id_ = 1;
  std::unordered_map<uint32_t, Attachment> attached_;
  std::vector<std::future<void>> releases_;
};

// The file as /proc/PID/maps names it: device and inode of the file that is really mapped, which on overlay and btrfs
// file systems are not those of fstat(2). Found by mapping a page of it here. @throws ProbeError
struct MappedIdentity {
  std::string device;  // "fe:00"
  uint64_t inode;
};
MappedIdentity IdentifyMapped(int fd);

}  // namespace wirespan
