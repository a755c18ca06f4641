// The door between JavaScript and native code, and the only file that includes napi.h: values become plain structs here, and what lies
// behind knows nothing of JavaScript. One section per area, each with a function that adds its exports.
#include <napi.h>

#include <linux/types.h>

#include <cstddef>

#include "bpf/events.h"

namespace {

// --- Layout of records ---------------------------------------------------------------------------------------------------------------

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

// --- Capture: programs, rings, sockets, features ---------------------------------------------------------------------------------------

void ExportCapture(Napi::Env, Napi::Object) {}

// --- Decryption ------------------------------------------------------------------------------------------------------------------------

// --- Probes for TLS secrets ------------------------------------------------------------------------------------------------------------

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  ExportLayout(env, exports);
  ExportCapture(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(wirespan, Init)
