// Reads the control ring, the ring of secrets and the packet ring in a thread of its own and hands their records over
// in large chunks.
//
// The chunks come from a bounded pool that the receiver owns; a record is copied into them with its actual length,
// while the ring holds size classes. When the receiver is behind, the pool is empty, the reader waits, the ring fills,
// and the kernel counts what it loses.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "native/descriptor.h"

namespace wirespan {

struct Chunk {
  uint8_t* data = nullptr;
  size_t capacity = 0;
  size_t length = 0;
};

// Bytes of a ring: read since the beginning, waiting to be read, and how many it holds.
struct RingUsage {
  uint64_t read = 0;
  uint64_t waiting = 0;
  uint64_t size = 0;
};

// The consumer's side of a BPF_MAP_TYPE_RINGBUF. Kernel: Documentation/bpf/ringbuf.rst.
class Ring {
 public:
  explicit Ring(int map_fd);  // throws BpfError
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Where the producers are now; what lies before was reserved, but need not be written yet.
  uint64_t ProducerPosition() const;

  enum class Result { kDone, kBusy, kFull };
  // Takes records up to `limit`, each by `take(record, length)`, which returns false when it has no room: then the
  // record stays. kBusy: a record is still being written. The ring's space is given back once, at the end. A length
  // that goes beyond `limit`, where the producers were, is none: what is left up to there is passed over, and counted.
  template <typename Take>
  Result Drain(uint64_t limit, Take&& take);
  bool IsEmpty() const;
  // From any thread.
  RingUsage Usage() const;
  uint64_t malformed() const { return malformed_; }
  uint64_t size() const { return size_; }
  // Of the reader's thread.
  uint64_t ConsumerPosition() const { return *consumer_; }

 private:
  size_t page_size_ = 0;
  size_t size_ = 0;
  uint64_t* consumer_ = nullptr;
  const uint8_t* producer_ = nullptr;
  std::atomic<uint64_t> malformed_{0};
};

struct RingDescriptors {
  int control;
  int secrets;
  int packets;
  int wipe_program;  // wipe_secrets of capture.bpf.c
};

class RingReader {
 public:
  // `notify` is called in the reader's thread when chunks are ready and the last notification was answered, and at the
  // very end. Throws BpfError.
  RingReader(const RingDescriptors& descriptors, std::vector<Chunk> pool, int poll_ms, std::function<void()> notify);
  ~RingReader();
  RingReader(const RingReader&) = delete;
  RingReader& operator=(const RingReader&) = delete;

  // Ends the thread once it has handed over what is in the rings. Returns at once; `finished()` tells.
  // Destroying it without that leaves unread what is in the rings.
  void Stop();
  bool finished() const { return finished_; }

  // The receiver's side. Answers the notification: the index of the next chunk, or -1 when there is none.
  int TakeReady(size_t* length);
  void GiveBack(int index);

  RingUsage PacketRingUsage() const { return packets_.Usage(); }
  RingUsage ControlRingUsage() const { return control_.Usage(); }
  RingUsage SecretRingUsage() const { return secrets_.Usage(); }
  // Records left out because their lengths contradict each other or their ring. None, unless the programs are of
  // another build.
  uint64_t malformed() const { return control_.malformed() + secrets_.malformed() + packets_.malformed() + malformed_; }

 private:
  void StartThread();
  void Run();
  using Clock = std::chrono::steady_clock;
  bool DrainOnce();
  Ring::Result DrainSecrets(uint64_t limit, bool* any);
  void WipeSecrets();
  bool Append(const void* record, size_t length);
  bool NextChunk();
  void HandOver();
  void Wait(bool idle);

  Ring control_;
  Ring secrets_;
  Ring packets_;
  int wipe_program_;
  // Where the producers of the ring of secrets must have come until nothing is left of what was read; when there was
  // something first.
  uint64_t wipe_until_ = 0;
  bool wipe_due_ = false;
  Clock::time_point wipe_since_;
  int poll_ms_;
  std::function<void()> notify_;
  std::vector<Chunk> pool_;
  int current_ = -1;  // the chunk that is being filled, the thread's own

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<int> free_;
  std::deque<int> ready_;
  bool notified_ = false;

  std::atomic<bool> stopping_{false};
  std::atomic<bool> finished_{false};
  std::atomic<uint64_t> malformed_{0};
  bool abandoned_ = false;  // the receiver takes nothing more
  Descriptor stop_event_;
  Descriptor busy_epoll_;
  Descriptor idle_epoll_;
  std::thread thread_;
};

}  // namespace wirespan
