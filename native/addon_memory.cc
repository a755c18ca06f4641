#include "native/addon_memory.h"

#include <malloc.h>
#include <napi.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace wirespan {

namespace {

// protectMemory(): no core dump of this process, whose memory holds keys, and no look into it by others of its user.
// Its files in /proc then belong to root.
Napi::Value ProtectMemory(const Napi::CallbackInfo& info) {
  rlimit none = {0, 0};
  if (prctl(PR_SET_DUMPABLE, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0) {
    throw Napi::Error::New(info.Env(),
                           std::string("cannot keep this process's memory from being dumped: ") + strerror(errno));
  }
  return info.Env().Undefined();
}

// releaseFreeMemory(): what the C library holds free goes back to the system (malloc_trim(3)).
Napi::Value ReleaseFreeMemory(const Napi::CallbackInfo& info) {
  malloc_trim(0);
  return info.Env().Undefined();
}

// exitAtOnce(code): without waiting for threads, one of which may hang in a file system.
Napi::Value ExitAtOnce(const Napi::CallbackInfo& info) { _exit(info[0].As<Napi::Number>().Int32Value()); }

}  // namespace

void ExportMemory(napi_env raw_env, napi_value raw_exports) {
  Napi::Env env(raw_env);
  Napi::Object exports(raw_env, raw_exports);
  exports.Set("protectMemory", Napi::Function::New(env, ProtectMemory, "protectMemory"));
  exports.Set("exitAtOnce", Napi::Function::New(env, ExitAtOnce, "exitAtOnce"));
  exports.Set("releaseFreeMemory", Napi::Function::New(env, ReleaseFreeMemory, "releaseFreeMemory"));
}

}  // namespace wirespan
