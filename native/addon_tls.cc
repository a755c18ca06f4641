#include "native/addon_tls.h"

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "native/aead.h"
#include "native/key_schedule.h"

namespace {

// One call per run of records, so by the C interface: its C++ wrapper costs as much as decrypting a small record. What
// a call yields besides its status stands in two arrays that JavaScript made and registered once.
struct DecryptState {
  wirespan::HandleTable<wirespan::Opener> openers;
  wirespan::HandleTable<wirespan::Tls13Schedule> schedules;
  std::vector<std::unique_ptr<wirespan::CipherSuite>> suites;  // schedules refer to them
  uint8_t* output = nullptr;
  size_t capacity = 0;
  wirespan::OpenResult* result = nullptr;
};

// One environment runs on a thread at a time: each worker has its own.
thread_local DecryptState decrypt_state;

struct ByteView {
  uint8_t* data = nullptr;
  size_t length = 0;
};

bool BytesOf(napi_env env, napi_value value, ByteView* view) {
  bool is_typed_array = false;
  napi_typedarray_type type;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array) return false;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &view->length, &data, nullptr, nullptr) != napi_ok) return false;
  view->data = static_cast<uint8_t*>(data);
  return type == napi_uint8_array;
}

napi_value NumberOf(napi_env env, int32_t value) {
  napi_value number = nullptr;
  napi_create_int32(env, value, &number);
  return number;
}

napi_value Refuse(napi_env env, const char* what) {
  napi_throw_type_error(env, nullptr, what);
  return nullptr;
}

// tlsRegister(output: Uint8Array, result: Int32Array): where the other calls write. The caller keeps both alive.
napi_value TlsRegister(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2;
  ByteView output;
  napi_typedarray_type type;
  size_t length = 0;
  void* result = nullptr;
  if (napi_get_cb_info(env, info, &count, args, nullptr, nullptr) != napi_ok || count != 2 ||
      !BytesOf(env, args[0], &output) ||
      napi_get_typedarray_info(env, args[1], &type, &length, &result, nullptr, nullptr) != napi_ok ||
      type != napi_int32_array || length * sizeof(int32_t) != sizeof(wirespan::OpenResult)) {
    return Refuse(env, "tlsRegister(output: Uint8Array, result: Int32Array)");
  }
  decrypt_state.output = output.data;
  decrypt_state.capacity = output.length;
  decrypt_state.result = static_cast<wirespan::OpenResult*>(result);
  return nullptr;
}

int32_t AddOpener(std::unique_ptr<wirespan::Opener> opener) {
  return opener == nullptr ? 0 : static_cast<int32_t>(decrypt_state.openers.Add(std::move(opener)));
}

// Reads (handle, input, start, end[, number]); false when they do not fit together.
bool OpenArguments(napi_env env, napi_callback_info info, size_t expected, wirespan::Opener** opener, ByteView* input,
                   uint32_t* numbers) {
  napi_value args[5];
  size_t count = 5;
  uint32_t handle = 0;
  if (napi_get_cb_info(env, info, &count, args, nullptr, nullptr) != napi_ok || count != expected) return false;
  if (napi_get_value_uint32(env, args[0], &handle) != napi_ok || !BytesOf(env, args[1], input)) return false;
  for (size_t i = 2; i < expected; ++i) {
    if (napi_get_value_uint32(env, args[i], &numbers[i - 2]) != napi_ok) return false;
  }
  *opener = decrypt_state.openers.Get(handle);
  return *opener != nullptr && decrypt_state.result != nullptr && numbers[0] <= numbers[1] &&
         numbers[1] <= input->length;
}

// tlsOpen(handle, input, start, end): status of wirespan::Opener::OpenRecords.
napi_value TlsOpen(napi_env env, napi_callback_info info) {
  wirespan::Opener* opener = nullptr;
  ByteView input;
  uint32_t numbers[3] = {};
  if (!OpenArguments(env, info, 4, &opener, &input, numbers)) return Refuse(env, "tlsOpen(handle, input, start, end)");
  const auto status = opener->OpenRecords(input.data, numbers[0], numbers[1], decrypt_state.output,
                                          decrypt_state.capacity, decrypt_state.result);
  return NumberOf(env, static_cast<int32_t>(status));
}

// tlsTry(handle, input, start, end, trials): status of wirespan::Opener::TryRecord.
napi_value TlsTry(napi_env env, napi_callback_info info) {
  wirespan::Opener* opener = nullptr;
  ByteView input;
  uint32_t numbers[3] = {};
  if (!OpenArguments(env, info, 5, &opener, &input, numbers)) {
    return Refuse(env, "tlsTry(handle, input, start, end, trials)");
  }
  const auto status = opener->TryRecord(input.data, numbers[0], numbers[1], numbers[2], decrypt_state.output,
                                        decrypt_state.capacity, decrypt_state.result);
  return NumberOf(env, static_cast<int32_t>(status));
}

// tlsSkip(handle, records): passes over the sequence numbers of lost records.
napi_value TlsSkip(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2;
  uint32_t handle = 0;
  uint32_t records = 0;
  if (napi_get_cb_info(env, info, &count, args, nullptr, nullptr) != napi_ok || count != 2 ||
      napi_get_value_uint32(env, args[0], &handle) != napi_ok ||
      napi_get_value_uint32(env, args[1], &records) != napi_ok) {
    return Refuse(env, "tlsSkip(handle, records)");
  }
  wirespan::Opener* opener = decrypt_state.openers.Get(handle);
  if (opener != nullptr) opener->SkipSequence(records);
  return nullptr;
}

// tlsRelease(handle): frees and cleanses the keys.
napi_value TlsRelease(napi_env env, napi_callback_info info) {
  napi_value args[1];
  size_t count = 1;
  uint32_t handle = 0;
  if (napi_get_cb_info(env, info, &count, args, nullptr, nullptr) != napi_ok || count != 1 ||
      napi_get_value_uint32(env, args[0], &handle) != napi_ok) {
    return Refuse(env, "tlsRelease(handle)");
  }
  decrypt_state.openers.Release(handle);
  return nullptr;
}

// tlsHeld(): number of openers and schedules that are held.
napi_value TlsHeld(napi_env env, napi_callback_info) {
  return NumberOf(env, static_cast<int32_t>(decrypt_state.openers.size() + decrypt_state.schedules.size()));
}

// --- Key schedules ---------------------------------------------------------------------------------------------------

// Arguments that are whole numbers.
template <size_t kCount>
bool Numbers(napi_env env, const napi_value* args, uint32_t (&numbers)[kCount]) {
  for (size_t i = 0; i < kCount; ++i) {
    if (napi_get_value_uint32(env, args[i], &numbers[i]) != napi_ok) return false;
  }
  return true;
}

template <size_t kCount>
bool Arguments(napi_env env, napi_callback_info info, napi_value (&args)[kCount]) {
  size_t count = kCount;
  return napi_get_cb_info(env, info, &count, args, nullptr, nullptr) == napi_ok && count == kCount;
}

wirespan::Tls13Schedule* ScheduleOf(napi_env env, napi_value value) {
  uint32_t handle = 0;
  if (napi_get_value_uint32(env, value, &handle) != napi_ok) return nullptr;
  return decrypt_state.schedules.Get(handle);
}

bool SecretOf(napi_env env, napi_value value, wirespan::TrafficSecret* which) {
  uint32_t number = 0;
  if (napi_get_value_uint32(env, value, &number) != napi_ok || number >= wirespan::kTrafficSecrets) return false;
  *which = static_cast<wirespan::TrafficSecret>(number);
  return true;
}

// tlsSuite(kind, cipher, macDigest, keyLength, macKeyLength, sha384): the number by which the other calls name that
// cipher suite.
napi_value TlsSuite(napi_env env, napi_callback_info info) {
  napi_value args[6];
  uint32_t kind[1];
  uint32_t lengths[3];
  char cipher[64];
  char digest[32];
  size_t length = 0;
  if (!Arguments(env, info, args) || !Numbers(env, args, kind) || kind[0] > 4 || !Numbers(env, args + 3, lengths) ||
      napi_get_value_string_utf8(env, args[1], cipher, sizeof cipher, &length) != napi_ok ||
      napi_get_value_string_utf8(env, args[2], digest, sizeof digest, &length) != napi_ok) {
    return Refuse(env, "tlsSuite(kind, cipher, macDigest, keyLength, macKeyLength, sha384)");
  }
  decrypt_state.suites.push_back(std::make_unique<wirespan::CipherSuite>(wirespan::CipherSuite{
      static_cast<wirespan::CipherKind>(kind[0]), cipher, digest, lengths[0], lengths[1], lengths[2] != 0}));
  return NumberOf(env, static_cast<int32_t>(decrypt_state.suites.size() - 1));
}

const wirespan::CipherSuite* SuiteOf(uint32_t number) {
  return number < decrypt_state.suites.size() ? decrypt_state.suites[number].get() : nullptr;
}

// tls12Openers(suite, version, encryptThenMac, master, seed): whether OpenSSL has the cipher. The handles are result[0]
// and result[1].
napi_value Tls12Openers(napi_env env, napi_callback_info info) {
  napi_value args[5];
  uint32_t numbers[3];
  ByteView master;
  ByteView seed;
  if (!Arguments(env, info, args) || !Numbers(env, args, numbers) || !BytesOf(env, args[3], &master) ||
      !BytesOf(env, args[4], &seed) || seed.length != 64 || SuiteOf(numbers[0]) == nullptr ||
      decrypt_state.result == nullptr) {
    return Refuse(env, "tls12Openers(suite, version, encryptThenMac, master, seed)");
  }
  std::unique_ptr<wirespan::Opener> openers[2];
  const bool ok = wirespan::MakeTls12Openers(*SuiteOf(numbers[0]), numbers[1], numbers[2] != 0, master.data,
                                             master.length, seed.data, openers);
  if (!ok) return NumberOf(env, 0);
  decrypt_state.result->consumed = AddOpener(std::move(openers[0]));
  decrypt_state.result->records = AddOpener(std::move(openers[1]));
  return NumberOf(env, 1);
}

// tls13Schedule(suite, hellos, serverHello, retried, helloHash): a handle, 0 when the hellos are none. Their hash is
// written to helloHash.
napi_value Tls13Create(napi_env env, napi_callback_info info) {
  napi_value args[5];
  uint32_t suite[1];
  uint32_t retried[1];
  ByteView hellos;
  ByteView server_hello;
  ByteView hash;
  if (!Arguments(env, info, args) || !Numbers(env, args, suite) || !BytesOf(env, args[1], &hellos) ||
      !BytesOf(env, args[2], &server_hello) || !Numbers(env, args + 3, retried) || !BytesOf(env, args[4], &hash) ||
      hash.length < wirespan::kMaxHash || SuiteOf(suite[0]) == nullptr) {
    return Refuse(env, "tls13Schedule(suite, hellos, serverHello, retried, helloHash)");
  }
  auto schedule = wirespan::Tls13Schedule::Create(*SuiteOf(suite[0]), hellos.data, hellos.length, server_hello.data,
                                                  server_hello.length, retried[0] != 0);
  if (schedule == nullptr) return NumberOf(env, 0);
  memcpy(hash.data, schedule->hello_hash(), schedule->hash_length());
  return NumberOf(env, static_cast<int32_t>(decrypt_state.schedules.Add(std::move(schedule))));
}

// tls13Handshake(schedule, handshakeSecret): whether it has the right length.
napi_value Tls13Handshake(napi_env env, napi_callback_info info) {
  napi_value args[2];
  ByteView secret;
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !BytesOf(env, args[1], &secret)) {
    return Refuse(env, "tls13Handshake(schedule, handshakeSecret)");
  }
  return NumberOf(env, schedule->TakeHandshakeSecret(secret.data, secret.length));
}

// tls13Early(schedule, earlySecret, clientHelloHash): whether they have the right lengths.
napi_value Tls13Early(napi_env env, napi_callback_info info) {
  napi_value args[3];
  ByteView secret;
  ByteView context;
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !BytesOf(env, args[1], &secret) || !BytesOf(env, args[2], &context)) {
    return Refuse(env, "tls13Early(schedule, earlySecret, clientHelloHash)");
  }
  return NumberOf(env, schedule->TakeEarlySecret(secret.data, secret.length, context.data, context.length));
}

// tls13Give(schedule, which, secret): takes a traffic secret. Whether it has the right length.
napi_value Tls13Give(napi_env env, napi_callback_info info) {
  napi_value args[3];
  ByteView secret;
  wirespan::TrafficSecret which;
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !SecretOf(env, args[1], &which) || !BytesOf(env, args[2], &secret)) {
    return Refuse(env, "tls13Give(schedule, which, secret)");
  }
  return NumberOf(env, schedule->TakeTrafficSecret(which, secret.data, secret.length));
}

// tls13Transcript(schedule, bytes, start, end)
napi_value Tls13Transcript(napi_env env, napi_callback_info info) {
  napi_value args[4];
  uint32_t range[2];
  ByteView bytes;
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !BytesOf(env, args[1], &bytes) || !Numbers(env, args + 2, range) || range[0] > range[1] ||
      range[1] > bytes.length) {
    return Refuse(env, "tls13Transcript(schedule, bytes, start, end)");
  }
  schedule->AddToTranscript(bytes.data + range[0], range[1] - range[0]);
  return nullptr;
}

// tls13Finish(schedule, withExporter): the transcript is whole.
napi_value Tls13Finish(napi_env env, napi_callback_info info) {
  napi_value args[2];
  uint32_t with_exporter[1];
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !Numbers(env, args + 1, with_exporter)) {
    return Refuse(env, "tls13Finish(schedule, withExporter)");
  }
  return NumberOf(env, schedule->FinishServerFlight(with_exporter[0] != 0));
}

// tls13Opener(schedule, which): an opener's handle, 0 when OpenSSL lacks the cipher, -1 when the secret is not known.
napi_value Tls13Opener(napi_env env, napi_callback_info info) {
  napi_value args[2];
  wirespan::TrafficSecret which;
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !SecretOf(env, args[1], &which)) {
    return Refuse(env, "tls13Opener(schedule, which)");
  }
  if (schedule->Secret(which) == nullptr) return NumberOf(env, -1);
  return NumberOf(env, AddOpener(schedule->MakeOpener(which)));
}

// tls13Update(schedule, which): whether the next application secret has taken the place of the present one.
napi_value Tls13Update(napi_env env, napi_callback_info info) {
  napi_value args[2];
  wirespan::TrafficSecret which;
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !SecretOf(env, args[1], &which)) {
    return Refuse(env, "tls13Update(schedule, which)");
  }
  return NumberOf(env, schedule->Update(which));
}

// tls13Secret(schedule, which, into): for a key log. The length of the secret, 0 when it is not known.
napi_value Tls13Secret(napi_env env, napi_callback_info info) {
  napi_value args[3];
  ByteView into;
  wirespan::TrafficSecret which;
  wirespan::Tls13Schedule* schedule = nullptr;
  if (!Arguments(env, info, args) || (schedule = ScheduleOf(env, args[0])) == nullptr ||
      !SecretOf(env, args[1], &which) || !BytesOf(env, args[2], &into) || into.length < wirespan::kMaxHash) {
    return Refuse(env, "tls13Secret(schedule, which, into)");
  }
  const uint8_t* secret = schedule->Secret(which);
  if (secret == nullptr) return NumberOf(env, 0);
  memcpy(into.data, secret, schedule->hash_length());
  return NumberOf(env, static_cast<int32_t>(schedule->hash_length()));
}

// tls13Release(schedule): frees and cleanses what it holds; its openers stay.
napi_value Tls13Release(napi_env env, napi_callback_info info) {
  napi_value args[1];
  uint32_t handle[1];
  if (!Arguments(env, info, args) || !Numbers(env, args, handle)) return Refuse(env, "tls13Release(schedule)");
  decrypt_state.schedules.Release(handle[0]);
  return nullptr;
}

}  // namespace

void wirespan::ExportDecryption(napi_env env, napi_value exports) {
  const auto method = [](const char* name, napi_callback callback) {
    return napi_property_descriptor{name, nullptr, callback, nullptr, nullptr, nullptr, napi_enumerable, nullptr};
  };
  const napi_property_descriptor methods[] = {
      method("tlsRegister", TlsRegister),
      method("tlsOpen", TlsOpen),
      method("tlsTry", TlsTry),
      method("tlsSkip", TlsSkip),
      method("tlsRelease", TlsRelease),
      method("tlsHeld", TlsHeld),
      method("tlsSuite", TlsSuite),
      method("tls12Openers", Tls12Openers),
      method("tls13Schedule", Tls13Create),
      method("tls13Handshake", Tls13Handshake),
      method("tls13Early", Tls13Early),
      method("tls13Give", Tls13Give),
      method("tls13Transcript", Tls13Transcript),
      method("tls13Finish", Tls13Finish),
      method("tls13Opener", Tls13Opener),
      method("tls13Update", Tls13Update),
      method("tls13Secret", Tls13Secret),
      method("tls13Release", Tls13Release),
  };
  napi_define_properties(env, exports, sizeof methods / sizeof methods[0], methods);
  // The registered arrays die with the environment.
  auto clear = [](void*) { decrypt_state = {}; };
  napi_add_env_cleanup_hook(env, clear, nullptr);
}
