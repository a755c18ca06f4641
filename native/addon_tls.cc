#include "native/addon_tls.h"

#include <node_api.h>

#include <cstddef>
#include <cstdint>

#include "native/aead.h"

namespace {

// One call per run of records, so by the C interface: its C++ wrapper costs as much as decrypting a small record. What a call yields
// besides its status stands in two arrays that JavaScript made and registered once.
struct DecryptState {
  wirespan::OpenerTable openers;
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

// tlsOpener(kind, version, cipher, digest, key, iv, macKey): a handle, 0 when OpenSSL cannot.
napi_value TlsOpener(napi_env env, napi_callback_info info) {
  napi_value args[7];
  size_t count = 7;
  uint32_t kind = 0;
  uint32_t version = 0;
  char cipher[64];
  char digest[32];
  size_t cipher_length = 0;
  size_t digest_length = 0;
  ByteView key;
  ByteView iv;
  ByteView mac_key;
  if (napi_get_cb_info(env, info, &count, args, nullptr, nullptr) != napi_ok || count != 7 ||
      napi_get_value_uint32(env, args[0], &kind) != napi_ok || kind > 5 ||
      napi_get_value_uint32(env, args[1], &version) != napi_ok ||
      napi_get_value_string_utf8(env, args[2], cipher, sizeof cipher, &cipher_length) != napi_ok ||
      napi_get_value_string_utf8(env, args[3], digest, sizeof digest, &digest_length) != napi_ok ||
      !BytesOf(env, args[4], &key) || !BytesOf(env, args[5], &iv) || !BytesOf(env, args[6], &mac_key)) {
    return Refuse(env, "tlsOpener(kind, version, cipher, digest, key, iv, macKey)");
  }
  auto opener = wirespan::Opener::Create({static_cast<wirespan::CipherKind>(kind), version, cipher, digest, key.data,
                                          key.length, iv.data, iv.length, mac_key.data, mac_key.length});
  if (opener == nullptr) return NumberOf(env, 0);
  return NumberOf(env, static_cast<int32_t>(decrypt_state.openers.Add(std::move(opener))));
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

// tlsOpeners(): number of openers that are held.
napi_value TlsOpeners(napi_env env, napi_callback_info) {
  return NumberOf(env, static_cast<int32_t>(decrypt_state.openers.size()));
}

// tlsHmac(digest, key, data, output): length of the MAC written to output, which has room for it; 0 on failure.
napi_value TlsHmac(napi_env env, napi_callback_info info) {
  napi_value args[4];
  size_t count = 4;
  char digest[32];
  size_t digest_length = 0;
  ByteView key;
  ByteView data;
  ByteView output;
  if (napi_get_cb_info(env, info, &count, args, nullptr, nullptr) != napi_ok || count != 4 ||
      napi_get_value_string_utf8(env, args[0], digest, sizeof digest, &digest_length) != napi_ok ||
      !BytesOf(env, args[1], &key) || !BytesOf(env, args[2], &data) || !BytesOf(env, args[3], &output) ||
      output.length < 64) {
    return Refuse(env, "tlsHmac(digest, key, data, output of 64 bytes)");
  }
  const size_t length = wirespan::Hmac(digest, key.data, key.length, data.data, data.length, output.data);
  return NumberOf(env, static_cast<int32_t>(length));
}

}  // namespace

void wirespan::ExportDecryption(napi_env env, napi_value exports) {
  const auto method = [](const char* name, napi_callback callback) {
    return napi_property_descriptor{name, nullptr, callback, nullptr, nullptr, nullptr, napi_enumerable, nullptr};
  };
  const napi_property_descriptor methods[] = {
      method("tlsRegister", TlsRegister), method("tlsOpener", TlsOpener),   method("tlsOpen", TlsOpen),
      method("tlsTry", TlsTry),           method("tlsSkip", TlsSkip),       method("tlsRelease", TlsRelease),
      method("tlsOpeners", TlsOpeners),   method("tlsHmac", TlsHmac),
  };
  napi_define_properties(env, exports, sizeof methods / sizeof methods[0], methods);
  // The registered arrays die with the environment.
  napi_add_env_cleanup_hook(env, [](void*) { decrypt_state = {}; }, nullptr);
}
