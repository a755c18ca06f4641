// The key schedules of TLS, from a secret to the openers of both directions: RFC 8446 section 7 (TLS 1.3), RFC 5246
// section 6.3 and RFC 2246 section 6.3 (TLS 1.2 and before). Plain C++: knows nothing of JavaScript, and no key or
// traffic secret leaves it, but for a key log that the user asked for.
//
// HMAC is OpenSSL's; its EVP_KDF is not used: the agent probes EVP_KDF_derive in every process, its own program file
// included.
#ifndef WIRESPAN_KEY_SCHEDULE_H
#define WIRESPAN_KEY_SCHEDULE_H

#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "native/aead.h"

namespace wirespan {

constexpr size_t kMaxHash = 48;  // SHA-384

// What a cipher suite needs. The TypeScript side has the table of suites (src/tls/suites.ts).
struct CipherSuite {
  CipherKind kind;         // CBC: kCbcMacThenEncrypt; which of the two it is, the handshake says
  std::string cipher;      // OpenSSL's name
  std::string mac_digest;  // CBC: hash of the record MAC
  size_t key_length;
  size_t mac_key_length;
  bool sha384;  // hash of HKDF or of the PRF: SHA-384, else SHA-256
};

// The secrets of one TLS 1.3 connection that are used or logged. The TypeScript side repeats these numbers.
enum class TrafficSecret : uint32_t {
  kClientEarly = 0,
  kClientHandshake = 1,
  kServerHandshake = 2,
  kClientApplication = 3,
  kServerApplication = 4,
  kExporter = 5,
};
constexpr size_t kTrafficSecrets = 6;

// HMAC of one hash under one key after the other, for HKDF and P_hash. Its memory is cleansed when it is destroyed.
class Hmac {
 public:
  explicit Hmac(const char* digest);
  ~Hmac() { EVP_MAC_CTX_free(context_); }
  Hmac(const Hmac&) = delete;
  Hmac& operator=(const Hmac&) = delete;

  // The key of the MACs that follow.
  bool SetKey(const uint8_t* key, size_t length);
  // Bytes of a MAC, once there is a key.
  size_t size() const { return EVP_MAC_CTX_get_mac_size(context_); }
  // Writes the MAC of `data` followed by `more`, whole. Returns false when OpenSSL fails.
  bool Mac(const uint8_t* data, size_t length, const uint8_t* more, size_t more_length, uint8_t* output);
  // HKDF-Expand-Label(key, label, context, length) of RFC 8446 7.1. TLS never asks for more than one block of HKDF, a
  // hash's length.
  bool ExpandLabel(const char* label, const uint8_t* context, size_t context_length, uint8_t* output, size_t length);

 private:
  EVP_MAC_CTX* context_ = nullptr;
  bool fresh_ = false;  // just keyed: the first MAC needs no start
};

// One TLS 1.3 handshake and what follows from it: the transcript, the secrets, the openers.
class Tls13Schedule {
 public:
  // `hellos`: the ClientHello, or ClientHello, HelloRetryRequest and ClientHello joined (`retried`); then the
  // ServerHello. Whole messages with their headers. nullptr when they are none, or OpenSSL fails.
  static std::unique_ptr<Tls13Schedule> Create(const CipherSuite& suite, const uint8_t* hellos, size_t length,
                                               const uint8_t* server_hello, size_t server_hello_length, bool retried);
  ~Tls13Schedule();
  Tls13Schedule(const Tls13Schedule&) = delete;
  Tls13Schedule& operator=(const Tls13Schedule&) = delete;

  size_t hash_length() const { return hash_length_; }
  // Transcript-Hash of the hellos: it names the handshake secret.
  const uint8_t* hello_hash() const { return hello_hash_; }

  // The handshake secret: both handshake traffic secrets follow, and once the transcript is whole the others.
  bool TakeHandshakeSecret(const uint8_t* secret, size_t length);
  // The early secret, with the hash of the ClientHello.
  bool TakeEarlySecret(const uint8_t* secret, size_t length, const uint8_t* context, size_t context_length);
  // A secret from a key log.
  bool TakeTrafficSecret(TrafficSecret which, const uint8_t* secret, size_t length);

  // Bytes of the server's messages after the ServerHello.
  void AddToTranscript(const uint8_t* data, size_t length);
  // The server's Finished was the last of them. The exporter secret is only derived for a key log.
  bool FinishServerFlight(bool with_exporter);

  // nullptr when the secret is not known.
  const uint8_t* Secret(TrafficSecret which) const;
  // Keys from a secret that is known. Only application secrets are kept, for a KeyUpdate.
  std::unique_ptr<Opener> MakeOpener(TrafficSecret which);
  // RFC 8446 7.2: the next application secret of a direction in place of the present one. False when there is none.
  bool Update(TrafficSecret which);

 private:
  explicit Tls13Schedule(const CipherSuite& suite);
  bool Hash(const uint8_t* data, size_t length, uint8_t* output);
  Hmac& hmac();
  bool Derive(TrafficSecret which, const char* label, const uint8_t* context);
  uint8_t* SecretAt(TrafficSecret which) { return secrets_[static_cast<size_t>(which)]; }
  bool IsKnown(TrafficSecret which) const { return (known_ & BitOf(which)) != 0; }
  static constexpr uint32_t BitOf(TrafficSecret which) { return 1u << static_cast<uint32_t>(which); }

  const CipherSuite& suite_;
  const size_t hash_length_;
  EVP_MD_CTX* transcript_ = nullptr;  // until it is whole
  std::unique_ptr<Hmac> hmac_;        // while there is something to derive
  uint8_t hello_hash_[kMaxHash];
  uint8_t master_[kMaxHash];
  uint8_t secrets_[kTrafficSecrets][kMaxHash];
  uint32_t known_ = 0;
  uint32_t made_ = 0;  // openers
  bool master_known_ = false;
};

// The openers of both directions, client's first, from the master secret of TLS 1.2 or before. `seed`: server_random,
// client_random. False when OpenSSL lacks the cipher or fails.
bool MakeTls12Openers(const CipherSuite& suite, uint32_t version, bool encrypt_then_mac, const uint8_t* master,
                      size_t master_length, const uint8_t seed[64], std::unique_ptr<Opener> openers[2]);

}  // namespace wirespan

#endif
