#include "native/addon_probes.h"

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "native/probes.h"

namespace wirespan {

namespace {

Napi::Error ToJs(Napi::Env env, const ProbeError& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("errno", Napi::Number::New(env, failure.code));
  return error;
}

// class Probes: constructor({objectPath, programs, secretRingFd, allowMulti, allowSleepable}); its methods are described in
// src/secrets/native-probes.ts.
class NativeProbes : public Napi::ObjectWrap<NativeProbes> {
 public:
  static void Export(Napi::Env env, Napi::Object exports) {
    Napi::Function constructor =
        DefineClass(env, "Probes",
                    {InstanceMethod<&NativeProbes::Attach>("attach"), InstanceMethod<&NativeProbes::Detach>("detach"),
                     InstanceMethod<&NativeProbes::Info>("info"), InstanceMethod<&NativeProbes::Drain>("drain"),
                     InstanceMethod<&NativeProbes::Close>("close")});
    exports.Set("Probes", constructor);
  }

  explicit NativeProbes(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeProbes>(info) {
    Napi::Object given = info[0].As<Napi::Object>();
    ProbeOptions options;
    options.object_path = given.Get("objectPath").As<Napi::String>().Utf8Value();
    Napi::Array programs = given.Get("programs").As<Napi::Array>();
    for (uint32_t i = 0; i < programs.Length(); i++) {
      options.programs.push_back(programs.Get(i).As<Napi::String>().Utf8Value());
    }
    options.secret_ring_fd = given.Get("secretRingFd").As<Napi::Number>().Int32Value();
    options.allow_multi = given.Get("allowMulti").As<Napi::Boolean>().Value();
    options.allow_sleepable = given.Get("allowSleepable").As<Napi::Boolean>().Value();
    try {
      probes_ = Probes::Open(options);
    } catch (const ProbeError& failure) {
      throw ToJs(info.Env(), failure);
    }
  }

 private:
  Napi::Value Attach(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    std::string program = info[0].As<Napi::String>().Utf8Value();
    std::string path = info[1].As<Napi::String>().Utf8Value();
    auto offset = static_cast<uint64_t>(info[2].As<Napi::Number>().DoubleValue());
    auto cookie = static_cast<uint64_t>(info[3].As<Napi::Number>().DoubleValue());
    try {
      return Napi::Number::New(env, Open(env).Attach(program, path, offset, cookie));
    } catch (const ProbeError& failure) {
      throw ToJs(env, failure);
    }
  }

  Napi::Value Detach(const Napi::CallbackInfo& info) {
    if (probes_ == nullptr) return Napi::Boolean::New(info.Env(), false);
    return Napi::Boolean::New(info.Env(), probes_->Detach(info[0].As<Napi::Number>().Uint32Value()));
  }

  Napi::Value Info(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    Probes& probes = Open(env);
    secret_losses counts = probes.Counts();
    auto number = [&](uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); };
    Napi::Object lost = Napi::Object::New(env);
    lost.Set("secret_ring_full", number(counts.ring_full));
    lost.Set("params_unreadable", number(counts.params_unreadable));
    lost.Set("values_unreadable", number(counts.values_unreadable));
    lost.Set("unexpected_values", number(counts.unexpected_values));
    Napi::Object result = Napi::Object::New(env);
    result.Set("multi", Napi::Boolean::New(env, probes.multi()));
    result.Set("cookies", Napi::Boolean::New(env, probes.cookies()));
    result.Set("sleepable", Napi::Boolean::New(env, probes.sleepable()));
    result.Set("attached", number(probes.attached()));
    result.Set("emitted", number(counts.emitted));
    result.Set("lost", lost);
    Napi::Array programs = Napi::Array::New(env);
    uint32_t index = 0;
    for (const ProbeProgram& program : probes.Programs()) {
      Napi::Object entry = Napi::Object::New(env);
      entry.Set("name", program.name);
      entry.Set("id", number(program.id));
      entry.Set("runCount", number(program.run_count));
      entry.Set("runTimeNs", number(program.run_time_ns));
      programs.Set(index++, entry);
    }
    result.Set("programs", programs);
    return result;
  }

  Napi::Value Drain(const Napi::CallbackInfo& info) {
    std::vector<uint8_t> records = Open(info.Env()).Drain();
    return Napi::Buffer<uint8_t>::Copy(info.Env(), records.data(), records.size());
  }

  void Close(const Napi::CallbackInfo&) { probes_.reset(); }

  Probes& Open(Napi::Env env) {
    if (probes_ == nullptr) throw Napi::Error::New(env, "the probes are closed");
    return *probes_;
  }

  std::unique_ptr<Probes> probes_;
};

// identifyMapped(fd): "major:minor:inode" as in /proc/PID/maps.
Napi::Value Identify(const Napi::CallbackInfo& info) {
  try {
    MappedIdentity identity = IdentifyMapped(info[0].As<Napi::Number>().Int32Value());
    return Napi::String::New(info.Env(), identity.device + ":" + std::to_string(identity.inode));
  } catch (const ProbeError& failure) {
    throw ToJs(info.Env(), failure);
  }
}

}  // namespace

void ExportProbes(napi_env raw_env, napi_value raw_exports) {
  Napi::Env env(raw_env);
  Napi::Object exports(raw_env, raw_exports);
  NativeProbes::Export(env, exports);
  exports.Set("identifyMapped", Napi::Function::New(env, Identify, "identifyMapped"));
}

}  // namespace wirespan
