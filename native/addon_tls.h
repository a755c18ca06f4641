// The door's section for the decryption of TLS records (native/aead.h).
#pragma once

#include <node_api.h>

namespace wirespan {

// Adds the functions that src/tls/opener.ts describes.
void ExportDecryption(napi_env env, napi_value exports);

}  // namespace wirespan
