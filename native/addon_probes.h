// The door's section for the probes of TLS secrets.
#pragma once

#include <node_api.h>

namespace wirespan {

// Adds what src/secrets/native-probes.ts describes.
void ExportProbes(napi_env env, napi_value exports);

}  // namespace wirespan
