#include "native/ring_reader.h"

#include <bpf/bpf.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <system_error>

#include "native/bpf_log.h"
#include "native/bpf_types.h"

namespace wirespan {
namespace {

// After this time without a record the reader sleeps until it is woken.
constexpr int kBusyMs = 50;
// Then it looks nevertheless now and then: the record of a socket wakes nobody, its packets do.
constexpr int kIdleTimeoutMs = 500;
// So long may secrets that were read stay in their ring. With the above they are gone within a second.
constexpr std::chrono::milliseconds kWipeAfter(200);

// Room that any record fits into (PIECE_HEADERS + PIECE_PAYLOAD of bpf/emit.h and its header).
constexpr size_t kReuseBytes = 128 * 1024;

uint64_t LoadAcquire(const void* address) {
  return __atomic_load_n(static_cast<const uint64_t*>(address), __ATOMIC_ACQUIRE);
}

// RECORD_* of bpf/events.h.
uint16_t TypeOf(const uint8_t* record, uint32_t length) {
  return length < sizeof(record_header) ? uint16_t{RECORD_ZEROS} : reinterpret_cast<const record_header*>(record)->type;
}

void Watch(int epoll, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) throw BpfError("cannot wait for a BPF ring", errno);
}

}  // namespace

Ring::Ring(int map_fd) : page_size_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
  bpf_map_info info{};
  uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(map_fd, &info, &length) != 0) throw BpfError("cannot read the size of a BPF ring", errno);
  size_ = info.max_entries;
  void* consumer = mmap(nullptr, page_size_, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
  if (consumer == MAP_FAILED) throw BpfError("cannot map a BPF ring", errno);
  // The data is mapped twice in a row, so that a record never wraps.
  void* producer = mmap(nullptr, page_size_ + 2 * size_, PROT_READ, MAP_SHARED, map_fd, static_cast<off_t>(page_size_));
  if (producer == MAP_FAILED) {
    int error = errno;
    munmap(consumer, page_size_);
    throw BpfError("cannot map a BPF ring", error);
  }
  consumer_ = static_cast<uint64_t*>(consumer);
  producer_ = static_cast<const uint8_t*>(producer);
}

Ring::~Ring() {
  munmap(consumer_, page_size_);
  munmap(const_cast<uint8_t*>(producer_), page_size_ + 2 * size_);
}

uint64_t Ring::ProducerPosition() const { return LoadAcquire(producer_); }

bool Ring::IsEmpty() const { return *consumer_ == ProducerPosition(); }

RingUsage Ring::Usage() const {
  uint64_t read = LoadAcquire(consumer_);
  uint64_t written = ProducerPosition();
  return {read, written - read, size_};
}

template <typename Take>
Ring::Result Ring::Drain(uint64_t limit, Take&& take) {
  const uint8_t* data = producer_ + page_size_;
  uint64_t position = *consumer_;  // written by this thread only
  Result result = Result::kDone;
  while (position < limit) {
    const uint8_t* header = data + (position & (size_ - 1));
    uint32_t word = __atomic_load_n(reinterpret_cast<const uint32_t*>(header), __ATOMIC_ACQUIRE);
    if (word & BPF_RINGBUF_BUSY_BIT) {
      result = Result::kBusy;
      break;
    }
    uint32_t length = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
    uint64_t next = position + ((BPF_RINGBUF_HDR_SZ + uint64_t{length} + 7) & ~uint64_t{7});
    if (next > limit) {
      malformed_++;
      position = limit;
      break;
    }
    if (!(word & BPF_RINGBUF_DISCARD_BIT) && !take(header + BPF_RINGBUF_HDR_SZ, length)) {
      result = Result::kFull;
      break;
    }
    position = next;
  }
  // Before the next look at the producers: a record that comes after it finds the ring read up to itself, and wakes the
  // reader.
  __atomic_store_n(consumer_, position, __ATOMIC_SEQ_CST);
  return result;
}

RingReader::RingReader(const RingDescriptors& descriptors, std::vector<Chunk> pool, int poll_ms,
                       std::function<void()> notify)
    : control_(descriptors.control),
      secrets_(descriptors.secrets),
      packets_(descriptors.packets),
      wipe_program_(descriptors.wipe_program),
      poll_ms_(poll_ms),
      notify_(std::move(notify)),
      pool_(std::move(pool)),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      busy_epoll_(epoll_create1(EPOLL_CLOEXEC)),
      idle_epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!stop_event_.ok() || !busy_epoll_.ok() || !idle_epoll_.ok())
    throw BpfError("cannot make descriptors to wait on", errno);
  for (const Chunk& chunk : pool_) {
    if (chunk.capacity < kReuseBytes) throw BpfError("a chunk has no room for the largest record", EINVAL);
  }
  for (size_t i = pool_.size(); i > 0; i--) free_.push_back(static_cast<int>(i - 1));
  LIBBPF_OPTS(bpf_test_run_opts, run);
  int error = bpf_prog_test_run_opts(wipe_program_, &run);
  if (error != 0) throw BpfError("cannot have read secrets written over", error);
  // Edge-triggered: what stays in a ring while the pool is empty must not wake the reader again and again.
  Watch(busy_epoll_.get(), descriptors.control, EPOLLIN | EPOLLET);
  Watch(busy_epoll_.get(), stop_event_.get(), EPOLLIN);
  Watch(idle_epoll_.get(), descriptors.control, EPOLLIN | EPOLLET);
  Watch(idle_epoll_.get(), descriptors.packets, EPOLLIN | EPOLLET);
  Watch(idle_epoll_.get(), stop_event_.get(), EPOLLIN);
  StartThread();
}

void RingReader::StartThread() {
  // Signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = 0;
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) throw BpfError("cannot start the thread that reads the BPF rings", error);
  pthread_setname_np(thread_.native_handle(), "ring-reader");
}

RingReader::~RingReader() {
  Stop();
  {
    std::lock_guard lock(mutex_);
    abandoned_ = true;
    returned_.notify_all();
  }
  thread_.join();
}

void RingReader::Stop() {
  stopping_ = true;
  uint64_t one = 1;
  if (write(stop_event_.get(), &one, sizeof one) < 0) return;  // already signalled
}

void RingReader::Run() {
  Clock::time_point last_record = Clock::now();
  for (;;) {
    bool stopping = stopping_;  // before the drain, so that a last one follows the stop
    bool any = DrainOnce();
    if (any) last_record = Clock::now();
    {
      std::lock_guard lock(mutex_);
      if (abandoned_) break;
    }
    if (stopping && !any && control_.IsEmpty() && secrets_.IsEmpty() && packets_.IsEmpty()) break;
    if (stopping) {
      // The programs are detached: what is left is bounded. A record that stays busy belongs to a program that still
      // runs.
      if (Clock::now() - last_record > std::chrono::seconds(1)) break;
      usleep(200);
      continue;
    }
    Wait(Clock::now() - last_record > std::chrono::milliseconds(kBusyMs));
  }
  {
    std::lock_guard lock(mutex_);
    finished_ = true;
  }
  notify_();
}

void RingReader::Wait(bool idle) {
  epoll_event events[3];
  int timeout_ms = idle ? kIdleTimeoutMs : poll_ms_;
  if (wipe_due_ && timeout_ms > kWipeAfter.count()) timeout_ms = static_cast<int>(kWipeAfter.count());
  epoll_wait((idle ? idle_epoll_ : busy_epoll_).get(), events, 3, timeout_ms);
}

// Hands over the secrets, not the zeros between them.
Ring::Result RingReader::DrainSecrets(uint64_t limit, bool* any) {
  uint64_t before = secrets_.ConsumerPosition();
  uint64_t zeros = 0;
  Ring::Result result = secrets_.Drain(limit, [&](const uint8_t* record, uint32_t length) {
    if (TypeOf(record, length) == RECORD_ZEROS) {
      zeros += (BPF_RINGBUF_HDR_SZ + uint64_t{length} + 7) & ~uint64_t{7};
      return true;
    }
    *any = true;
    return Append(record, length);
  });
  // What was discarded held secrets, too.
  if (secrets_.ConsumerPosition() - before > zeros) {
    wipe_until_ = secrets_.ConsumerPosition() + secrets_.size();
    if (!wipe_due_) wipe_since_ = Clock::now();
    wipe_due_ = true;
  }
  return result;
}

// Once around the ring, a piece at a time, each read again at once: there is always room for new secrets.
void RingReader::WipeSecrets() {
  if (!wipe_due_ || Clock::now() - wipe_since_ < kWipeAfter) return;
  const uint64_t until = wipe_until_;
  bool any = false;
  for (uint64_t written = secrets_.ProducerPosition(); written < until;) {
    LIBBPF_OPTS(bpf_test_run_opts, run);
    uint64_t before = written;
    // Where there is no room, or a secret is still being written, the next round goes on.
    if (bpf_prog_test_run_opts(wipe_program_, &run) != 0) return;
    written = secrets_.ProducerPosition();
    if (written == before || DrainSecrets(written, &any) != Ring::Result::kDone) return;
  }
  // Those that came meanwhile have their own turn.
  wipe_due_ = wipe_until_ != until;
  wipe_since_ = Clock::now();
}

// One round: what was reserved when it began. Control records and secrets before the packets that they precede. Returns
// whether there was anything.
bool RingReader::DrainOnce() {
  // In this order: a record that explains a packet was in the control ring before the packet was in its ring.
  uint64_t packet_limit = packets_.ProducerPosition();
  uint64_t control_limit = control_.ProducerPosition();
  uint64_t secret_limit = secrets_.ProducerPosition();
  bool any = false;
  auto take_control = [&](const uint8_t* record, uint32_t length) {
    any = true;
    return Append(record, length);
  };
  // The ring holds size classes; the packet's own length says how much of it is filled.
  auto take_packet = [&](const uint8_t* record, uint32_t length) {
    any = true;
    const auto* packet = reinterpret_cast<const packet_record*>(record);
    if (length < sizeof *packet || packet->header.length < sizeof *packet || packet->header.length > length) {
      malformed_++;
      return true;
    }
    return Append(packet, packet->header.length);
  };
  Ring::Result control = control_.Drain(control_limit, take_control);
  Ring::Result secrets = DrainSecrets(secret_limit, &any);
  // A record that is still being written may explain packets of this round: they wait for the next one.
  if (control == Ring::Result::kDone && secrets == Ring::Result::kDone) packets_.Drain(packet_limit, take_packet);
  WipeSecrets();
  HandOver();
  return any || control == Ring::Result::kBusy || secrets == Ring::Result::kBusy;
}

bool RingReader::Append(const void* record, size_t length) {
  if (length > kReuseBytes) {
    malformed_++;
    return true;
  }
  if (current_ >= 0 &&
      pool_[static_cast<size_t>(current_)].capacity - pool_[static_cast<size_t>(current_)].length < length)
    HandOver();
  if (current_ < 0 && !NextChunk()) return false;
  Chunk& chunk = pool_[static_cast<size_t>(current_)];
  memcpy(chunk.data + chunk.length, record, length);
  chunk.length += length;
  return true;
}

// Waits for room: the kernel's ring is the queue behind this one. Returns false when nobody will give any back.
bool RingReader::NextChunk() {
  std::unique_lock lock(mutex_);
  if (!ready_.empty()) {
    // The receiver has not taken the last one yet: go on filling it, instead of handing over many that are nearly
    // empty.
    const Chunk& last = pool_[static_cast<size_t>(ready_.back())];
    if (last.capacity - last.length >= kReuseBytes) {
      current_ = ready_.back();
      ready_.pop_back();
      return true;
    }
  }
  returned_.wait(lock, [this] { return !free_.empty() || abandoned_; });
  if (abandoned_) return false;
  current_ = free_.back();
  free_.pop_back();
  pool_[static_cast<size_t>(current_)].length = 0;
  return true;
}

void RingReader::HandOver() {
  if (current_ < 0) return;
  std::unique_lock lock(mutex_);
  ready_.push_back(current_);
  current_ = -1;
  if (notified_) return;
  notified_ = true;
  lock.unlock();
  notify_();
}

int RingReader::TakeReady(size_t* length) {
  std::lock_guard lock(mutex_);
  if (ready_.empty()) {
    notified_ = false;
    return -1;
  }
  int index = ready_.front();
  ready_.pop_front();
  *length = pool_[static_cast<size_t>(index)].length;
  return index;
}

void RingReader::GiveBack(int index) {
  std::lock_guard lock(mutex_);
  free_.push_back(index);
  returned_.notify_one();
}

}  // namespace wirespan
