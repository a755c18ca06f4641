#include "native/key_schedule.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

namespace wirespan {
namespace {

constexpr uint32_t kTls10 = 0x0301;
constexpr uint32_t kTls12 = 0x0303;
constexpr uint32_t kTls13 = 0x0304;
constexpr size_t kMessageHeader = 4;
constexpr uint8_t kMessageHash = 254;
constexpr size_t kTls13Iv = 12;
constexpr size_t kMaxKey = 32;
constexpr size_t kMaxMac = 64;
constexpr size_t kRandom = 32;

constexpr uint8_t kZeros[kMaxHash] = {};

const char* HashName(const CipherSuite& suite) { return suite.sha384 ? "SHA384" : "SHA256"; }

// Fetching walks OpenSSL's providers under a lock, so each algorithm is fetched once per thread; never freed, the set
// is small.
const EVP_MD* FetchDigest(bool sha384) {
  thread_local EVP_MD* sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local EVP_MD* sha384_ = EVP_MD_fetch(nullptr, "SHA384", nullptr);
  return sha384 ? sha384_ : sha256;
}

// A context that has its hash and no key: what Hmac begins with a copy of.
EVP_MAC_CTX* Template(const char* digest) {
  thread_local std::map<std::string, EVP_MAC_CTX*> templates;
  const auto found = templates.find(digest);
  if (found != templates.end()) return found->second;
  EVP_MAC_CTX* context = NewHmac(digest);
  templates.emplace(digest, context);
  return context;
}

constexpr bool IsApplication(TrafficSecret which) {
  return which == TrafficSecret::kClientApplication || which == TrafficSecret::kServerApplication;
}

// P_hash(secret, "key expansion" + seed) of RFC 5246 section 5, XORed onto `output`.
bool AddPHash(const char* digest, const uint8_t* secret, size_t secret_length, const uint8_t* seed, size_t seed_length,
              std::vector<uint8_t>* output) {
  Hmac hmac(digest);
  uint8_t a[kMaxMac];
  uint8_t block[kMaxMac];
  bool ok = hmac.SetKey(secret, secret_length) && hmac.Mac(seed, seed_length, nullptr, 0, a);
  const size_t length = ok ? hmac.size() : 0;
  for (size_t position = 0; ok && position < output->size(); position += length) {
    ok = hmac.Mac(a, length, seed, seed_length, block) && hmac.Mac(a, length, nullptr, 0, a);
    const size_t taken = std::min(length, output->size() - position);
    for (size_t i = 0; ok && i < taken; ++i) (*output)[position + i] ^= block[i];
  }
  OPENSSL_cleanse(a, sizeof a);
  OPENSSL_cleanse(block, sizeof block);
  return ok;
}

}  // namespace

Hmac::Hmac(const char* digest) {
  const EVP_MAC_CTX* unkeyed = Template(digest);
  if (unkeyed != nullptr) context_ = EVP_MAC_CTX_dup(unkeyed);
}

bool Hmac::SetKey(const uint8_t* key, size_t length) {
  // A null key would mean "the key of the last call".
  fresh_ = context_ != nullptr && EVP_MAC_init(context_, key != nullptr ? key : kZeros, length, nullptr) == 1;
  return fresh_;
}

bool Hmac::Mac(const uint8_t* data, size_t length, const uint8_t* more, size_t more_length, uint8_t* output) {
  if (context_ == nullptr) return false;
  if (!fresh_ && EVP_MAC_init(context_, nullptr, 0, nullptr) != 1) return false;
  fresh_ = false;
  size_t written = 0;
  return EVP_MAC_update(context_, data, length) == 1 &&
         (more_length == 0 || EVP_MAC_update(context_, more, more_length) == 1) &&
         EVP_MAC_final(context_, output, &written, kMaxMac) == 1;
}

bool Hmac::ExpandLabel(const char* label, const uint8_t* context, size_t context_length, uint8_t* output,
                       size_t length) {
  // struct HkdfLabel: length, "tls13 " + label, context; then the block number of RFC 5869 2.3.
  uint8_t info[2 + 1 + 6 + 16 + 1 + kMaxHash + 1];
  const size_t label_length = strlen(label);
  if (label_length > 16 || context_length > kMaxHash) return false;
  uint8_t* at = info;
  *at++ = static_cast<uint8_t>(length >> 8);
  *at++ = static_cast<uint8_t>(length);
  *at++ = static_cast<uint8_t>(6 + label_length);
  at = std::copy_n("tls13 ", 6, at);
  at = std::copy_n(label, label_length, at);
  *at++ = static_cast<uint8_t>(context_length);
  at = std::copy_n(context, context_length, at);
  *at++ = 1;
  uint8_t block[kMaxMac];
  const bool ok = length <= sizeof block && Mac(info, static_cast<size_t>(at - info), nullptr, 0, block);
  if (ok) memcpy(output, block, length);
  OPENSSL_cleanse(block, sizeof block);
  return ok;
}

Tls13Schedule::Tls13Schedule(const CipherSuite& suite) : suite_(suite), hash_length_(suite.sha384 ? 48 : 32) {}

Tls13Schedule::~Tls13Schedule() {
  EVP_MD_CTX_free(transcript_);
  OPENSSL_cleanse(master_, sizeof master_);
  OPENSSL_cleanse(secrets_, sizeof secrets_);
}

std::unique_ptr<Tls13Schedule> Tls13Schedule::Create(const CipherSuite& suite, const uint8_t* hellos, size_t length,
                                                     const uint8_t* server_hello, size_t server_hello_length,
                                                     bool retried) {
  std::unique_ptr<Tls13Schedule> schedule(new Tls13Schedule(suite));
  EVP_MD_CTX* transcript = schedule->transcript_ = EVP_MD_CTX_new();
  if (transcript == nullptr || EVP_DigestInit_ex2(transcript, FetchDigest(suite.sha384), nullptr) != 1) return nullptr;
  size_t position = 0;
  if (retried) {
    // RFC 8446 4.4.1: before a HelloRetryRequest the first ClientHello is replaced by a message of its hash.
    if (length < kMessageHeader) return nullptr;
    position = kMessageHeader + (static_cast<size_t>(hellos[1]) << 16 | hellos[2] << 8 | hellos[3]);
    if (position > length) return nullptr;
    uint8_t message[kMessageHeader + kMaxHash] = {kMessageHash, 0, 0, static_cast<uint8_t>(schedule->hash_length_)};
    if (!schedule->Hash(hellos, position, message + kMessageHeader)) return nullptr;
    if (EVP_DigestUpdate(transcript, message, kMessageHeader + schedule->hash_length_) != 1) return nullptr;
  }
  if (EVP_DigestUpdate(transcript, hellos + position, length - position) != 1 ||
      EVP_DigestUpdate(transcript, server_hello, server_hello_length) != 1) {
    return nullptr;
  }
  thread_local EVP_MD_CTX* snapshot = EVP_MD_CTX_new();
  if (snapshot == nullptr || EVP_MD_CTX_copy_ex(snapshot, transcript) != 1 ||
      EVP_DigestFinal_ex(snapshot, schedule->hello_hash_, nullptr) != 1) {
    return nullptr;
  }
  return schedule;
}

bool Tls13Schedule::Hash(const uint8_t* data, size_t length, uint8_t* output) {
  return EVP_Digest(data, length, output, nullptr, FetchDigest(suite_.sha384), nullptr) == 1;
}

Hmac& Tls13Schedule::hmac() {
  if (hmac_ == nullptr) hmac_ = std::make_unique<Hmac>(HashName(suite_));
  return *hmac_;
}

// Derive-Secret of RFC 8446 7.1 under the key that is set, with the hash of the messages given.
bool Tls13Schedule::Derive(TrafficSecret which, const char* label, const uint8_t* context) {
  if (!hmac().ExpandLabel(label, context, hash_length_, SecretAt(which), hash_length_)) return false;
  known_ |= BitOf(which);
  return true;
}

bool Tls13Schedule::TakeHandshakeSecret(const uint8_t* secret, size_t length) {
  if (length != hash_length_ || transcript_ == nullptr || !hmac().SetKey(secret, length)) return false;
  if (!IsKnown(TrafficSecret::kClientHandshake) &&
      !Derive(TrafficSecret::kClientHandshake, "c hs traffic", hello_hash_)) {
    return false;
  }
  if (!IsKnown(TrafficSecret::kServerHandshake) &&
      !Derive(TrafficSecret::kServerHandshake, "s hs traffic", hello_hash_)) {
    return false;
  }
  // The master secret: HKDF-Extract(Derive-Secret(handshake secret, "derived", ""), 0).
  uint8_t empty_hash[kMaxHash];
  uint8_t salt[kMaxHash];
  uint8_t master[kMaxMac];
  master_known_ = Hash(kZeros, 0, empty_hash) &&
                  hmac().ExpandLabel("derived", empty_hash, hash_length_, salt, hash_length_) &&
                  hmac().SetKey(salt, hash_length_) && hmac().Mac(kZeros, hash_length_, nullptr, 0, master);
  if (master_known_) memcpy(master_, master, hash_length_);
  OPENSSL_cleanse(salt, sizeof salt);
  OPENSSL_cleanse(master, sizeof master);
  return master_known_;
}

bool Tls13Schedule::TakeEarlySecret(const uint8_t* secret, size_t length, const uint8_t* context,
                                    size_t context_length) {
  return length == hash_length_ && context_length == hash_length_ && hmac().SetKey(secret, length) &&
         Derive(TrafficSecret::kClientEarly, "c e traffic", context);
}

bool Tls13Schedule::TakeTrafficSecret(TrafficSecret which, const uint8_t* secret, size_t length) {
  if (length != hash_length_) return false;
  memcpy(SecretAt(which), secret, length);
  known_ |= BitOf(which);
  return true;
}

void Tls13Schedule::AddToTranscript(const uint8_t* data, size_t length) {
  if (transcript_ != nullptr) EVP_DigestUpdate(transcript_, data, length);
}

bool Tls13Schedule::FinishServerFlight(bool with_exporter) {
  if (transcript_ == nullptr) return true;
  uint8_t context[kMaxMac];
  bool ok = EVP_DigestFinal_ex(transcript_, context, nullptr) == 1;
  EVP_MD_CTX_free(transcript_);
  transcript_ = nullptr;
  if (!master_known_) return ok;
  ok = ok && hmac().SetKey(master_, hash_length_) &&
       (!with_exporter || Derive(TrafficSecret::kExporter, "exp master", context)) &&
       Derive(TrafficSecret::kServerApplication, "s ap traffic", context) &&
       Derive(TrafficSecret::kClientApplication, "c ap traffic", context);
  OPENSSL_cleanse(master_, sizeof master_);
  master_known_ = false;
  return ok;
}

const uint8_t* Tls13Schedule::Secret(TrafficSecret which) const {
  return IsKnown(which) ? secrets_[static_cast<size_t>(which)] : nullptr;
}

std::unique_ptr<Opener> Tls13Schedule::MakeOpener(TrafficSecret which) {
  if (!IsKnown(which) || suite_.key_length > kMaxKey) return nullptr;
  uint8_t key[kMaxKey];
  uint8_t iv[kTls13Iv];
  std::unique_ptr<Opener> opener;
  // RFC 8446 7.3.
  if (hmac().SetKey(SecretAt(which), hash_length_) && hmac().ExpandLabel("key", nullptr, 0, key, suite_.key_length) &&
      hmac().ExpandLabel("iv", nullptr, 0, iv, sizeof iv)) {
    opener = Opener::Create(
        {suite_.kind, kTls13, suite_.cipher.c_str(), "", key, suite_.key_length, iv, sizeof iv, nullptr, 0});
  }
  OPENSSL_cleanse(key, sizeof key);
  OPENSSL_cleanse(iv, sizeof iv);
  if (!IsApplication(which)) {
    OPENSSL_cleanse(SecretAt(which), kMaxHash);
    known_ &= ~BitOf(which);
  }
  // Most connections see no KeyUpdate: both directions have their last keys.
  made_ |= BitOf(which);
  constexpr uint32_t kApplication = BitOf(TrafficSecret::kClientApplication) | BitOf(TrafficSecret::kServerApplication);
  if ((made_ & kApplication) == kApplication) hmac_.reset();
  return opener;
}

bool Tls13Schedule::Update(TrafficSecret which) {
  uint8_t next[kMaxHash];
  const bool ok = IsKnown(which) && IsApplication(which) && hmac().SetKey(SecretAt(which), hash_length_) &&
                  hmac().ExpandLabel("traffic upd", nullptr, 0, next, hash_length_);
  if (ok) memcpy(SecretAt(which), next, hash_length_);
  OPENSSL_cleanse(next, sizeof next);
  return ok;
}

bool MakeTls12Openers(const CipherSuite& suite, uint32_t version, bool encrypt_then_mac, const uint8_t* master,
                      size_t master_length, const uint8_t seed[64], std::unique_ptr<Opener> openers[2]) {
  const bool cbc = suite.kind == CipherKind::kCbcMacThenEncrypt;
  const CipherKind kind = cbc && encrypt_then_mac ? CipherKind::kCbcEncryptThenMac : suite.kind;
  // RFC 5288 3, RFC 6655 3: a salt of four bytes; RFC 7905 2: twelve. CBC has IVs in the key block only before TLS 1.1.
  // An IV is a block: of 8 bytes for 3DES, of 16 for all others.
  const size_t block_length = suite.cipher == "DES-EDE3-CBC" ? 8 : 16;
  const size_t iv_length = cbc                                           ? (version == kTls10 ? block_length : 0)
                           : suite.kind == CipherKind::kChaCha20Poly1305 ? 12
                                                                         : 4;
  constexpr char kLabel[] = "key expansion";
  constexpr size_t kLabelLength = sizeof kLabel - 1;
  uint8_t label_and_seed[kLabelLength + 2 * kRandom];
  memcpy(label_and_seed, kLabel, kLabelLength);
  memcpy(label_and_seed + kLabelLength, seed, 2 * kRandom);

  std::vector<uint8_t> block(2 * (suite.mac_key_length + suite.key_length + iv_length));
  bool ok;
  if (version >= kTls12) {
    ok = AddPHash(HashName(suite), master, master_length, label_and_seed, sizeof label_and_seed, &block);
  } else {
    // RFC 2246 section 5: both halves of the secret, which share a byte when its length is odd.
    const size_t half = (master_length + 1) / 2;
    ok = AddPHash("MD5", master, half, label_and_seed, sizeof label_and_seed, &block) &&
         AddPHash("SHA1", master + master_length - half, half, label_and_seed, sizeof label_and_seed, &block);
  }
  const uint8_t* mac_keys = block.data();
  const uint8_t* keys = mac_keys + 2 * suite.mac_key_length;
  const uint8_t* ivs = keys + 2 * suite.key_length;
  for (size_t side = 0; ok && side < 2; ++side) {
    openers[side] = Opener::Create({kind, version, suite.cipher.c_str(), suite.mac_digest.c_str(),
                                    keys + side * suite.key_length, suite.key_length, ivs + side * iv_length, iv_length,
                                    mac_keys + side * suite.mac_key_length, suite.mac_key_length});
    ok = openers[side] != nullptr;
  }
  OPENSSL_cleanse(block.data(), block.size());
  return ok;
}

}  // namespace wirespan
