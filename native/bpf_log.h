// What libbpf has to say, kept for error messages instead of being printed.
#pragma once

#include <bpf/libbpf.h>

#include <stdexcept>
#include <string>

namespace wirespan {

// Sends libbpf's messages to a bounded buffer from now on. Idempotent.
void CaptureBpfLog();

// Takes what libbpf said since the last call: at most its last lines, which name the cause.
std::string TakeBpfLogTail();

// bpf_object__load with all signals held back: the verifier gives up with EAGAIN when one is pending, and a profiler's
// or a timer's come faster than a program is verified.
int LoadObject(bpf_object* object);

// An error for people: what failed, the errno, what libbpf said.
class BpfError : public std::runtime_error {
 public:
  // `error` is an errno, positive or negative.
  BpfError(const std::string& what, int error);
  int error() const { return error_; }

 private:
  int error_;
};

}  // namespace wirespan
