#include "native/probes.h"
#include "native/bpf_log.h"
#include "native/bpf_object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <system_error>

namespace wirespan {
namespace {

// linux/bpf.h of 6.6 and later; the library in use is older.
constexpr uint32_t kTraceUprobeMulti = 48;
constexpr uint32_t kPerfEvent = 41;
constexpr int kLinkCreate = 28;

struct LinkCreate {
  uint32_t prog_fd;
  uint32_t target_fd;
  uint32_t attach_type;
  uint32_t flags;
  union {
    struct {
      uint64_t path;
      uint64_t offsets;
      uint64_t ref_ctr_offsets;
      uint64_t cookies;
      uint32_t count;
      uint32_t flags;
      uint32_t pid;
      uint32_t padding;
    } uprobe_multi;
    struct {
      uint64_t bpf_cookie;
    } perf_event;
  };
};
static_assert(offsetof(LinkCreate, uprobe_multi) == 16 && sizeof(LinkCreate) == 64);

uint64_t Address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

// @returns the link's descriptor, or -errno
int CreateLink(LinkCreate* create, size_t size) {
  long fd = syscall(SYS_bpf, kLinkCreate, create, size);
  return fd < 0 ? -errno : static_cast<int>(fd);
}

const char* Advice(int code) {
  switch (code) {
    case EPERM:
    case EACCES:
      return "; run as root, or with CAP_BPF and CAP_PERFMON (before Linux 6.6 also CAP_SYS_ADMIN)";
    case EMFILE:
    case ENFILE:
      return "; raise the limit of open files (ulimit -n)";
    case ENOENT:
      return "; the file or the kernel's uprobe support (/sys/bus/event_source/devices/uprobe) is not there";
    case EIO:
      return "; the file system cannot carry uprobes";
    case ENOMEM:
      return "; memory, or RLIMIT_MEMLOCK on kernels before 5.11, is used up";
    default:
      return "";
  }
}

ProbeError Failure(const std::string& what, int code) {
  return {code, what + ": " + std::strerror(code) + Advice(code)};
}

void CloseAttachment(int link_fd, int perf_fd) {
  if (link_fd >= 0) close(link_fd);
  if (perf_fd >= 0) close(perf_fd);
}

}  // namespace

int Probes::Load(const ProbeOptions& options, const Features& features, std::string* log) {
  CaptureBpfLog();
  TakeBpfLogTail();
  bpf_object* object = bpf_object__open_file(options.object_path.c_str(), nullptr);
  if (object == nullptr) {
    *log = "cannot open " + options.object_path;
    return errno;
  }
  bpf_map* ring = nullptr;
  BpfVariable losses = {};
  try {
    ring = RequireRing(object, "secret_ring");
    losses = RequireVariable(object, ".bss", "secret_losses", sizeof(secret_losses));
    SetConstant<uint8_t>(object, "has_attach_cookie", features.cookies ? 1 : 0);
    SetConstant<uint8_t>(object, "may_fault", features.sleepable ? 1 : 0);
  } catch (const BpfError& failure) {
    bpf_object__close(object);
    *log = failure.what();
    return failure.error();
  }
  std::map<std::string, bpf_program*> programs;
  for (const std::string& name : options.programs) {
    bpf_program* program = bpf_object__find_program_by_name(object, name.c_str());
    if (program == nullptr) {
      bpf_object__close(object);
      *log = options.object_path + " has no program " + name;
      return EINVAL;
    }
    if (features.sleepable) bpf_program__set_flags(program, BPF_F_SLEEPABLE);
    if (features.multi)
      bpf_program__set_expected_attach_type(program, static_cast<enum bpf_attach_type>(kTraceUprobeMulti));
    programs[name] = program;
  }
  int error = options.secret_ring_fd >= 0 ? bpf_map__reuse_fd(ring, options.secret_ring_fd) : 0;
  if (error == 0) error = LoadObject(object);
  if (error != 0) {
    bpf_object__close(object);
    *log = TakeBpfLogTail();
    return -error;
  }
  object_ = object;
  for (const auto& [name, program] : programs) program_fds_[name] = bpf_program__fd(program);
  losses_fd_ = bpf_map__fd(losses.map);
  losses_offset_ = losses.offset;
  losses_section_bytes_ = losses.section_size;
  features_ = features;
  if (options.secret_ring_fd < 0) {
    auto take = [](void* context, void* data, size_t size) {
      auto* drained = static_cast<std::vector<uint8_t>*>(context);
      auto* bytes = static_cast<uint8_t*>(data);
      drained->insert(drained->end(), bytes, bytes + size);
      return 0;
    };
    ring_ = ring_buffer__new(bpf_map__fd(ring), take, &drained_, nullptr);
    if (ring_ == nullptr) {
      int code = errno;
      Close();
      *log = "ring_buffer__new";
      return code;
    }
  }
  return 0;
}

// A kernel without these links says EINVAL to the attach type; one that has them looks at the path first, and a folder
// is EBADF.
bool Probes::LinksMulti() const {
  uint64_t offset = 0;
  LinkCreate create = {};
  create.prog_fd = static_cast<uint32_t>(program_fds_.begin()->second);
  create.attach_type = kTraceUprobeMulti;
  create.uprobe_multi.path = Address("/");
  create.uprobe_multi.offsets = Address(&offset);
  create.uprobe_multi.count = 1;
  int fd = CreateLink(&create, sizeof(create));
  if (fd >= 0) close(fd);
  return fd == -EBADF;
}

std::unique_ptr<Probes> Probes::Open(const ProbeOptions& options) {
  // Before 5.11 maps count against it. libbpf does not see that it must when only CAP_BPF is there; failing is no error
  // here.
  rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);

  std::unique_ptr<Probes> probes(new Probes());
  std::string log;
  if (options.allow_multi && probes->Load(options, {true, true, options.allow_sleepable}, &log) == 0) {
    if (probes->LinksMulti()) return probes;
    probes->Close();
  }
  if (options.allow_sleepable && probes->Load(options, {false, true, true}, &log) == 0) return probes;
  if (probes->Load(options, {false, true, false}, &log) == 0) return probes;
  int code = probes->Load(options, {false, false, false}, &log);
  if (code == 0) return probes;
  ProbeError error = Failure("cannot load the program for TLS secrets", code);
  if (!log.empty()) error.message += " (" + log + ")";
  throw error;
}

Probes::Attachment Probes::AttachMulti(int program_fd, const std::string& path, uint64_t file_offset,
                                       uint64_t cookie) const {
  LinkCreate create = {};
  create.prog_fd = static_cast<uint32_t>(program_fd);
  create.attach_type = kTraceUprobeMulti;
  create.uprobe_multi.path = Address(path.c_str());
  create.uprobe_multi.offsets = Address(&file_offset);
  create.uprobe_multi.cookies = Address(&cookie);
  create.uprobe_multi.count = 1;
  int fd = CreateLink(&create, sizeof(create));
  if (fd < 0) throw Failure("uprobe_multi link", -fd);
  return {fd, -1};
}

Probes::Attachment Probes::AttachPerf(int program_fd, const std::string& path, uint64_t file_offset,
                                      uint64_t cookie) const {
  uint32_t type = 0;
  FILE* file = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
  if (file == nullptr) throw Failure("/sys/bus/event_source/devices/uprobe/type", errno);
  int read = fscanf(file, "%" SCNu32, &type);
  fclose(file);
  if (read != 1) throw Failure("/sys/bus/event_source/devices/uprobe/type", EINVAL);

  perf_event_attr attributes = {};
  attributes.type = type;
  attributes.size = sizeof(attributes);
  attributes.config1 = Address(path.c_str());  // uprobe_path
  attributes.config2 = file_offset;            // probe_offset
  long perf = syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
  if (perf < 0) throw Failure("perf_event_open of a uprobe", errno);
  Attachment attachment = {-1, static_cast<int>(perf)};

  // A link (5.15) can carry the cookie; before it the program is set on the event.
  LinkCreate create = {};
  create.prog_fd = static_cast<uint32_t>(program_fd);
  create.target_fd = static_cast<uint32_t>(attachment.perf_fd);
  create.attach_type = kPerfEvent;
  create.perf_event.bpf_cookie = cookie;
  int link = features_.cookies ? CreateLink(&create, 24) : -EINVAL;
  if (link >= 0) {
    attachment.link_fd = link;
  } else if (ioctl(attachment.perf_fd, PERF_EVENT_IOC_SET_BPF, program_fd) != 0) {
    int code = errno;
    CloseAttachment(-1, attachment.perf_fd);
    throw Failure("PERF_EVENT_IOC_SET_BPF", code);
  }
  if (ioctl(attachment.perf_fd, PERF_EVENT_IOC_ENABLE, 0) != 0) {
    int code = errno;
    CloseAttachment(attachment.link_fd, attachment.perf_fd);
    throw Failure("PERF_EVENT_IOC_ENABLE", code);
  }
  return attachment;
}

uint32_t Probes::Attach(const std::string& program, const std::string& path, uint64_t file_offset, uint64_t cookie) {
  if (object_ == nullptr) throw Failure("the probes are closed", EBADF);
  auto found = program_fds_.find(program);
  if (found == program_fds_.end()) throw Failure("no program " + program, EINVAL);
  Attachment attachment = features_.multi ? AttachMulti(found->second, path, file_offset, cookie)
                                          : AttachPerf(found->second, path, file_offset, cookie);
  uint32_t id = next_id_++;
  attached_.emplace(id, attachment);
  return id;
}

bool Probes::Detach(uint32_t id) {
  auto found = attached_.find(id);
  if (found == attached_.end()) return false;
  Release(found->second);
  attached_.erase(found);
  return true;
}

void Probes::Release(const Attachment& attachment) {
  std::erase_if(releases_,
                [](auto& release) { return release.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
  try {
    releases_.push_back(std::async(std::launch::async, CloseAttachment, attachment.link_fd, attachment.perf_fd));
  } catch (const std::system_error&) {
    CloseAttachment(attachment.link_fd, attachment.perf_fd);  // no thread to be had: then here
  }
}

secret_losses Probes::Counts() const {
  secret_losses counts = {};
  uint32_t key = 0;
  // The kernel copies the whole section.
  std::vector<uint8_t> section(losses_section_bytes_);
  if (losses_fd_ >= 0 && bpf_map_lookup_elem(losses_fd_, &key, section.data()) == 0) {
    memcpy(&counts, section.data() + losses_offset_, sizeof counts);
  }
  return counts;
}

std::vector<ProbeProgram> Probes::Programs() const {
  std::vector<ProbeProgram> all;
  for (const auto& [name, fd] : program_fds_) {
    bpf_prog_info info = {};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0) all.push_back({name, info.id, info.run_cnt, info.run_time_ns});
  }
  return all;
}

std::vector<uint8_t> Probes::Drain() {
  if (ring_ != nullptr) ring_buffer__consume(ring_);
  std::vector<uint8_t> records;
  records.swap(drained_);
  return records;
}

void Probes::Close() {
  for (auto& [id, attachment] : attached_) Release(attachment);
  attached_.clear();
  releases_.clear();  // a future of std::async waits when it goes
  if (ring_ != nullptr) ring_buffer__free(ring_);
  if (object_ != nullptr) bpf_object__close(object_);
  ring_ = nullptr;
  object_ = nullptr;
  program_fds_.clear();
  losses_fd_ = -1;
}

Probes::~Probes() { Close(); }

MappedIdentity IdentifyMapped(int fd) {
  void* page = mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, fd, 0);
  if (page == MAP_FAILED) throw Failure("cannot map the file", errno);
  MappedIdentity identity = {"", 0};
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps != nullptr) {
    char* line = nullptr;
    size_t capacity = 0;
    while (getline(&line, &capacity, maps) > 0) {
      uint64_t start = 0;
      char device[32] = "";
      // proc(5): address-range permissions offset device inode path
      int fields = sscanf(line, "%" SCNx64 "-%*x %*s %*x %31s %" SCNu64, &start, device, &identity.inode);
      if (fields == 3 && start == Address(page)) {
        identity.device = device;
        break;
      }
    }
    free(line);
    fclose(maps);
  }
  munmap(page, 1);
  if (identity.device.empty()) throw Failure("cannot find the file in /proc/self/maps", ENOENT);
  return identity;
}

}  // namespace wirespan
