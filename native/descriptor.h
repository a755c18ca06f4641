// A file descriptor that closes itself.
#pragma once

#include <unistd.h>

namespace wirespan {

class Descriptor {
 public:
  // Takes what a system call returned: below 0 there is none.
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

}  // namespace wirespan
