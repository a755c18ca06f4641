#include "native/features.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "native/bpf_loader.h"
#include "native/bpf_log.h"

namespace wirespan {
namespace {

// `r0 = value; exit`: the smallest program there is.
struct TrivialProgram {
  bpf_insn instructions[2];
  explicit TrivialProgram(int value) : instructions{} {
    instructions[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
    instructions[0].imm = value;
    instructions[1].code = BPF_JMP | BPF_EXIT;
  }
};

std::string Failed(const char* what, int error) {
  char buffer[128];
  return std::string(what) + ": " + strerror_r(error < 0 ? -error : error, buffer, sizeof buffer);
}

int Load(bpf_prog_type type, bpf_attach_type attach, int value) {
  TrivialProgram program(value);
  LIBBPF_OPTS(bpf_prog_load_opts, options);
  options.expected_attach_type = attach;
  return bpf_prog_load(type, "probe", "Dual BSD/GPL", program.instructions, 2, &options);
}

std::string ProbeCgroup(const std::string& path, bpf_prog_type type, bpf_attach_type attach) {
  int cgroup = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (cgroup < 0) return Failed(("open " + path).c_str(), errno);
  int program = Load(type, attach, 1);  // 1: let it pass
  std::string why;
  if (program < 0) why = Failed("load", program);
  int link = program < 0 ? -1 : bpf_link_create(program, cgroup, attach, nullptr);
  if (program >= 0 && link < 0) why = Failed("attach", link);
  for (int fd : {link, program, cgroup}) {
    if (fd >= 0) close(fd);
  }
  return why;
}

std::string ProbeRawTracepoint() {
  int program = Load(BPF_PROG_TYPE_RAW_TRACEPOINT, static_cast<bpf_attach_type>(0), 0);
  if (program < 0) return Failed("load", program);
  int link = bpf_raw_tracepoint_open("sched_process_exec", program);
  std::string why = link < 0 ? Failed("attach", link) : "";
  if (link >= 0) close(link);
  close(program);
  return why;
}

std::string ProbeRingBuffer() {
  int map = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "probe", 0, 0, static_cast<uint32_t>(sysconf(_SC_PAGESIZE)), nullptr);
  if (map < 0) return Failed("create", map);
  close(map);
  return "";
}

}  // namespace

std::string ProbeFeature(const std::string& name, const std::string& cgroup_path) {
  CaptureBpfLog();
  RaiseMemoryLimit();
  if (name == "ring_buffer") return ProbeRingBuffer();
  if (name == "cgroup_skb") return ProbeCgroup(cgroup_path, BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS);
  if (name == "sock_create") return ProbeCgroup(cgroup_path, BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_CREATE);
  if (name == "raw_tp") return ProbeRawTracepoint();
  return "no such feature: " + name;
}

}  // namespace wirespan
