#include "native/bpf_log.h"

#include <bpf/libbpf.h>
#include <signal.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace wirespan {
namespace {

constexpr size_t kLogBytes = 16 * 1024;
constexpr size_t kTailBytes = 800;

std::mutex log_mutex;
std::string& Log() {
  static std::string log;
  return log;
}

int Print(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  // What the verifier says of a program is one message of any length, and its end names the cause.
  char* line = nullptr;
  int length = vasprintf(&line, format, arguments);
  if (length < 0) return 0;
  auto size = static_cast<size_t>(length);
  std::lock_guard lock(log_mutex);
  std::string& log = Log();
  log.append(size > kLogBytes ? line + (size - kLogBytes) : line);
  free(line);
  if (log.size() > kLogBytes) log.erase(0, log.size() - kLogBytes);
  return 0;
}

std::string Describe(const std::string& what, int error) {
  char buffer[128];
  std::string text = what + ": " + strerror_r(std::abs(error), buffer, sizeof buffer);
  std::string log = TakeBpfLogTail();
  if (!log.empty()) text += "\n" + log;
  return text;
}

}  // namespace

void CaptureBpfLog() { libbpf_set_print(Print); }

std::string TakeBpfLogTail() {
  std::lock_guard lock(log_mutex);
  std::string log;
  log.swap(Log());
  if (log.size() > kTailBytes) {
    size_t line = log.find('\n', log.size() - kTailBytes);
    log.erase(0, line == std::string::npos ? log.size() - kTailBytes : line + 1);
  }
  while (!log.empty() && log.back() == '\n') log.pop_back();
  return log;
}

int LoadObject(bpf_object* object) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  const int error = bpf_object__load(object);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

BpfError::BpfError(const std::string& what, int error)
    : std::runtime_error(Describe(what, error)), error_(std::abs(error)) {}

}  // namespace wirespan
