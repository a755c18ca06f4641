// The door's section for the memory of the process.
#pragma once

#include <node_api.h>

namespace wirespan {

// Adds the functions that src/capture/native.ts describes.
void ExportMemory(napi_env env, napi_value exports);

}  // namespace wirespan
