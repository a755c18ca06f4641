// The door between JavaScript and native code. Only the files of this name (addon*) include napi.h: values become plain
// structs here, and what lies behind knows nothing of JavaScript. One section per area, each with a function that adds
// its exports.
#include <napi.h>

#include <linux/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "bpf/events.h"
#include "native/addon_memory.h"
#include "native/addon_probes.h"
#include "native/addon_tls.h"
#include "native/bpf_loader.h"
#include "native/bpf_log.h"
#include "native/features.h"
#include "native/ring_reader.h"
#include "native/socket_scan.h"

namespace {

// --- Layout of records -----------------------------------------------------------------------------------------------

#define OFFSET(object, type, js, member) (object).Set(js, Napi::Number::New(env, offsetof(struct type, member)))
#define SIZE(object, type) (object).Set("size", Napi::Number::New(env, sizeof(struct type)))

// The offsets of bpf/events.h, for the test that compares them with src/capture/records.ts.
Napi::Value RecordLayout(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object layout = Napi::Object::New(env);

  Napi::Object header = Napi::Object::New(env);
  OFFSET(header, record_header, "length", length);
  OFFSET(header, record_header, "type", type);
  OFFSET(header, record_header, "flags", flags);
  OFFSET(header, record_header, "timeNs", time_ns);
  SIZE(header, record_header);
  layout.Set("HEADER", header);

  Napi::Object packet = Napi::Object::New(env);
  OFFSET(packet, packet_record, "cookie", cookie);
  OFFSET(packet, packet_record, "netns", netns);
  OFFSET(packet, packet_record, "ifindex", ifindex);
  OFFSET(packet, packet_record, "packetLength", packet_length);
  OFFSET(packet, packet_record, "captured", captured);
  OFFSET(packet, packet_record, "payloadSkip", payload_skip);
  OFFSET(packet, packet_record, "direction", direction);
  SIZE(packet, packet_record);
  layout.Set("PACKET", packet);

  Napi::Object socket = Napi::Object::New(env);
  OFFSET(socket, socket_record, "cookie", cookie);
  OFFSET(socket, socket_record, "peerCookie", peer_cookie);
  OFFSET(socket, socket_record, "cgroupId", cgroup_id);
  OFFSET(socket, socket_record, "processStartNs", process_start_ns);
  OFFSET(socket, socket_record, "tgid", tgid);
  OFFSET(socket, socket_record, "netns", netns);
  OFFSET(socket, socket_record, "comm", comm);
  SIZE(socket, socket_record);
  layout.Set("SOCKET", socket);

  Napi::Object process = Napi::Object::New(env);
  OFFSET(process, process_record, "processStartNs", process_start_ns);
  OFFSET(process, process_record, "tgid", tgid);
  OFFSET(process, process_record, "reason", reason);
  OFFSET(process, process_record, "comm", comm);
  OFFSET(process, process_record, "filename", filename);
  SIZE(process, process_record);
  layout.Set("PROCESS", process);

  Napi::Object secret = Napi::Object::New(env);
  OFFSET(secret, secret_record, "tgid", tgid);
  OFFSET(secret, secret_record, "kind", kind);
  OFFSET(secret, secret_record, "secretLength", secret_length);
  OFFSET(secret, secret_record, "contextLength", context_length);
  OFFSET(secret, secret_record, "library", library);
  OFFSET(secret, secret_record, "secret", secret);
  OFFSET(secret, secret_record, "context", context);
  SIZE(secret, secret_record);
  layout.Set("SECRET", secret);
  return layout;
}

void ExportLayout(Napi::Env env, Napi::Object exports) {
  exports.Set("recordLayout", Napi::Function::New(env, RecordLayout, "recordLayout"));
}

// --- Capture: programs, rings, sockets, features ---------------------------------------------------------------------

std::string TextOf(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::String>().Utf8Value();
}

// Runs native code that reports failure by an exception of its own, and makes it one of JavaScript.
template <typename Body>
auto Guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const wirespan::BpfError& error) {
    Napi::Error thrown = Napi::Error::New(env, error.what());
    thrown.Set("errno", Napi::Number::New(env, error.error()));
    throw thrown;
  }
}

// One capture: the programs in the kernel and the thread that reads their rings. Wrapped by src/capture/live.ts, which
// documents it.
class CaptureSession : public Napi::ObjectWrap<CaptureSession> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "CaptureSession",
                       {
                           InstanceMethod<&CaptureSession::Attach>("attach"),
                           InstanceMethod<&CaptureSession::Start>("start"),
                           InstanceMethod<&CaptureSession::Resume>("resume"),
                           InstanceMethod<&CaptureSession::Stop>("stop"),
                           InstanceMethod<&CaptureSession::Close>("close"),
                           InstanceMethod<&CaptureSession::Mute>("mute"),
                           InstanceMethod<&CaptureSession::IgnoreListener>("ignoreListener"),
                           InstanceMethod<&CaptureSession::IgnoreCgroup>("ignoreCgroup"),
                           InstanceMethod<&CaptureSession::Losses>("losses"),
                           InstanceMethod<&CaptureSession::Rings>("rings"),
                           InstanceMethod<&CaptureSession::Programs>("programs"),
                           InstanceMethod<&CaptureSession::EnableStats>("enableStats"),
                           InstanceMethod<&CaptureSession::Scan>("scan"),
                           InstanceAccessor<&CaptureSession::SecretRingFd>("secretRingFd"),
                           InstanceAccessor<&CaptureSession::AgentPid>("agentPid"),
                       });
  }

  explicit CaptureSession(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CaptureSession>(info) {
    Napi::Object given = info[0].As<Napi::Object>();
    wirespan::CaptureOptions options;
    options.object_path = TextOf(given, "objectPath");
    options.cgroup_path = TextOf(given, "cgroupPath");
    options.whole_tree = given.Get("wholeTree").ToBoolean();
    options.packet_ring_bytes = given.Get("packetRingBytes").As<Napi::Number>().Uint32Value();
    Napi::Array ports = given.Get("excludedPorts").As<Napi::Array>();
    for (uint32_t i = 0; i < ports.Length(); i++) {
      options.excluded_ports.push_back(static_cast<uint16_t>(ports.Get(i).As<Napi::Number>().Uint32Value()));
    }
    Guarded(info.Env(), [&] { object_.Load(options); });
  }

  ~CaptureSession() override { Shut(); }

 private:
  static void OnReady(Napi::Env env, Napi::Function on_chunk, CaptureSession* session, void*) {
    if (env != nullptr) session->Deliver(env, on_chunk);
  }
  using Notifier = Napi::TypedThreadSafeFunction<CaptureSession, void, OnReady>;

  // Hands one chunk to JavaScript, so that timers, sockets and files have their turn before the next: a full one takes
  // some 80 ms to read. The next turn is JavaScript's to schedule: a thread-safe function that calls itself is called
  // again at once, up to a thousand times (ThreadSafeFunction::Dispatch of src/node_api.cc), and while the reader keeps
  // up the loop would see to nothing else.
  void Deliver(Napi::Env env, const Napi::Function& on_chunk) {
    if (!reader_) return;
    Napi::HandleScope scope(env);
    size_t length = 0;
    int index = reader_->TakeReady(&length);
    if (index < 0) {
      if (reader_->finished()) Finish();
      return;
    }
    {
      struct Return {
        CaptureSession* session;
        int index;
        ~Return() {
          if (session->reader_) session->reader_->GiveBack(index);
        }
      } give_back{this, index};
      on_chunk.Call({Napi::Number::New(env, index), Napi::Number::New(env, static_cast<double>(length))});
    }
    if (reader_) on_more_.Call({});
  }

  // resume(onChunk(index, length)): the next turn.
  void Resume(const Napi::CallbackInfo& info) { Deliver(info.Env(), info[0].As<Napi::Function>()); }

  // The reader is done and everything was delivered.
  void Finish() {
    Napi::FunctionReference on_finished = std::move(on_finished_);
    Shut();
    if (!on_finished.IsEmpty()) on_finished.Call({});
  }

  // Leaves nothing behind in the kernel. Idempotent.
  void Shut() {
    object_.Detach();
    if (reader_) {
      reader_.reset();
      LetGo();
    }
    object_.Close();
    if (stats_fd_ >= 0) close(stats_fd_);
    stats_fd_ = -1;
  }

  // Gives back what the reader's thread refers to, after it; the session itself is given back by the notifier's
  // finalizer.
  void LetGo() {
    notifier_.Release();
    napi_remove_env_cleanup_hook(Env(), OnEnvironmentEnd, this);
    on_finished_.Reset();
    on_more_.Reset();
    chunks_.Reset();
  }

  static void OnEnvironmentEnd(void* session) { static_cast<CaptureSession*>(session)->Shut(); }

  void Attach(const Napi::CallbackInfo& info) {
    Guarded(info.Env(), [&] { object_.Attach(); });
  }

  // start(chunks: Buffer[], pollMs, onChunk(index, length), onMore(), onFinished()). After onMore() nothing comes until
  // resume().
  void Start(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (reader_) throw Napi::Error::New(env, "the capture has been started already");
    Napi::Array chunks = info[0].As<Napi::Array>();
    std::vector<wirespan::Chunk> pool;
    for (uint32_t i = 0; i < chunks.Length(); i++) {
      auto buffer = chunks.Get(i).As<Napi::Buffer<uint8_t>>();
      pool.push_back({buffer.Data(), buffer.Length(), 0});
    }
    chunks_ = Napi::Persistent(chunks.As<Napi::Object>());
    on_more_ = Napi::Persistent(info[3].As<Napi::Function>());
    on_finished_ = Napi::Persistent(info[4].As<Napi::Function>());
    // A call may still be queued when the reader has ended: the session lives until the function that brings it is
    // finalized.
    Ref();
    notifier_ = Notifier::New(env, info[2].As<Napi::Function>(), "wirespan capture", 0, 1, this,
                              [](Napi::Env, void*, CaptureSession* session) { session->Unref(); });
    napi_add_env_cleanup_hook(env, OnEnvironmentEnd, this);
    try {
      Guarded(env, [&] {
        reader_ = std::make_unique<wirespan::RingReader>(
            wirespan::RingDescriptors{object_.control_ring_fd(), object_.secret_ring_fd(), object_.packet_ring_fd(),
                                      object_.wipe_program_fd()},
            std::move(pool), info[1].As<Napi::Number>().Int32Value(), [this] { notifier_.NonBlockingCall(); });
      });
    } catch (...) {
      LetGo();
      throw;
    }
  }

  void Stop(const Napi::CallbackInfo&) {
    object_.Detach();
    if (reader_) reader_->Stop();
  }

  void Close(const Napi::CallbackInfo&) { Shut(); }

  Napi::Value Mute(const Napi::CallbackInfo& info) {
    int error = object_.Mute(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
    return Napi::Number::New(info.Env(), error);
  }

  // ignoreListener(address, port): 0 or an errno.
  Napi::Value IgnoreListener(const Napi::CallbackInfo& info) {
    uint16_t port = static_cast<uint16_t>(info[1].As<Napi::Number>().Uint32Value());
    return Napi::Number::New(info.Env(), object_.IgnoreListener(info[0].As<Napi::String>().Utf8Value(), port));
  }

  // ignoreCgroup(id, ignored): errno
  Napi::Value IgnoreCgroup(const Napi::CallbackInfo& info) {
    uint64_t id = static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value());
    return Napi::Number::New(info.Env(), object_.IgnoreCgroup(id, info[1].As<Napi::Boolean>().Value()));
  }

  Napi::Value Losses(const Napi::CallbackInfo& info) {
    Napi::Array counts = Napi::Array::New(info.Env());
    uint32_t reason = 0;
    for (uint64_t count : object_.Losses())
      counts.Set(reason++, Napi::Number::New(info.Env(), static_cast<double>(count)));
    counts.Set(reason, Napi::Number::New(info.Env(), static_cast<double>(reader_ ? reader_->malformed() : 0)));
    return counts;
  }

  // rings(): of the packet ring, then of the control ring and the ring of secrets, each bytes read, waiting, held at
  // most; undefined without a reader.
  Napi::Value Rings(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!reader_) return env.Undefined();
    Napi::Array numbers = Napi::Array::New(env);
    uint32_t index = 0;
    for (const wirespan::RingUsage& usage :
         {reader_->PacketRingUsage(), reader_->ControlRingUsage(), reader_->SecretRingUsage()}) {
      for (uint64_t number : {usage.read, usage.waiting, usage.size}) {
        numbers.Set(index++, Napi::Number::New(env, static_cast<double>(number)));
      }
    }
    return numbers;
  }

  Napi::Value Programs(const Napi::CallbackInfo& info) {
    Napi::Array all = Napi::Array::New(info.Env());
    uint32_t index = 0;
    for (const wirespan::ProgramStats& program : object_.Programs()) {
      Napi::Object entry = Napi::Object::New(info.Env());
      entry.Set("name", program.name);
      entry.Set("id", program.id);
      entry.Set("runCount", static_cast<double>(program.run_count));
      entry.Set("runTimeNs", static_cast<double>(program.run_time_ns));
      all.Set(index++, entry);
    }
    return all;
  }

  void EnableStats(const Napi::CallbackInfo& info) {
    if (stats_fd_ < 0) stats_fd_ = Guarded(info.Env(), [] { return wirespan::EnableBpfStats(); });
  }

  // scan(objectPath: string | undefined): Buffer of socket_records; without a path not by the iterator but by
  // descriptors.
  Napi::Value Scan(const Napi::CallbackInfo& info) {
    std::vector<socket_record> found = Guarded(info.Env(), [&] {
      if (!info[0].IsString()) return wirespan::ScanByDescriptors(object_.socket_states_fd(), object_.agent_tgid());
      return wirespan::ScanByIterator(info[0].As<Napi::String>().Utf8Value(), object_.socket_states_fd(),
                                      object_.agent_tgid());
    });
    return Napi::Buffer<uint8_t>::Copy(info.Env(), reinterpret_cast<uint8_t*>(found.data()),
                                       found.size() * sizeof(socket_record));
  }

  Napi::Value SecretRingFd(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), object_.secret_ring_fd());
  }
  Napi::Value AgentPid(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), object_.agent_tgid()); }

  wirespan::CaptureObject object_;
  std::unique_ptr<wirespan::RingReader> reader_;
  Notifier notifier_;
  Napi::ObjectReference chunks_;
  Napi::FunctionReference on_more_;
  Napi::FunctionReference on_finished_;
  int stats_fd_ = -1;
};

// Microseconds to add to CLOCK_BOOTTIME for CLOCK_REALTIME, from the tightest of a few pairs of readings.
Napi::Value ClockOffsetUs(const Napi::CallbackInfo& info) {
  auto read = [](clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
  };
  int64_t best_width = INT64_MAX;
  int64_t offset = 0;
  for (int i = 0; i < 3; i++) {
    int64_t before = read(CLOCK_BOOTTIME);
    int64_t real = read(CLOCK_REALTIME);
    int64_t after = read(CLOCK_BOOTTIME);
    if (after - before >= best_width) continue;
    best_width = after - before;
    offset = real - before - best_width / 2;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(offset) / 1000);
}

// probeFeature(name, cgroupPath): undefined when it works here, else why not.
Napi::Value ProbeFeature(const Napi::CallbackInfo& info) {
  std::string why =
      wirespan::ProbeFeature(info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value());
  return why.empty() ? info.Env().Undefined() : Napi::String::New(info.Env(), why);
}

void ExportCapture(Napi::Env env, Napi::Object exports) {
  exports.Set("CaptureSession", CaptureSession::Define(env));
  exports.Set("clockOffsetUs", Napi::Function::New(env, ClockOffsetUs, "clockOffsetUs"));
  exports.Set("probeFeature", Napi::Function::New(env, ProbeFeature, "probeFeature"));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  ExportLayout(env, exports);
  ExportCapture(env, exports);
  wirespan::ExportDecryption(env, exports);
  wirespan::ExportMemory(env, exports);
  wirespan::ExportProbes(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(wirespan, Init)
