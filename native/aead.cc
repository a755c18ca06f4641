#include "aead.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <cstring>
#include <map>
#include <string>

namespace wirespan {
namespace {

constexpr uint32_t kTls10 = 0x0301;
constexpr uint32_t kTls13 = 0x0304;
constexpr size_t kHeaderLength = 5;
constexpr uint8_t kApplicationData = 23;
// RFC 5246 6.2.3: the largest fragment; TLS 1.3 allows less.
constexpr size_t kMaxFragment = (1 << 14) + 2048;
constexpr size_t kMaxMac = 64;

bool IsCbc(CipherKind kind) { return kind == CipherKind::kCbcMacThenEncrypt || kind == CipherKind::kCbcEncryptThenMac; }

bool IsCcm(CipherKind kind) { return kind == CipherKind::kCcm || kind == CipherKind::kCcm8; }

// Fetching walks OpenSSL's providers under a lock, so each algorithm is fetched once per thread; never freed, the set
// is small.
EVP_CIPHER* FetchCipher(const char* name) {
  thread_local std::map<std::string, EVP_CIPHER*> ciphers;
  auto found = ciphers.find(name);
  if (found != ciphers.end()) return found->second;
  EVP_CIPHER* cipher = EVP_CIPHER_fetch(nullptr, name, nullptr);
  ciphers.emplace(name, cipher);
  return cipher;
}

void StoreU64(uint64_t value, uint8_t* out) {
  for (int i = 7; i >= 0; --i, value >>= 8) out[i] = static_cast<uint8_t>(value);
}

size_t FragmentLength(const uint8_t* header) { return static_cast<size_t>(header[3]) << 8 | header[4]; }

}  // namespace

EVP_MAC_CTX* NewHmac(const char* digest) {
  thread_local EVP_MAC* hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  if (hmac == nullptr) return nullptr;
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(hmac);
  if (context == nullptr) return nullptr;
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>(digest), 0),
      OSSL_PARAM_construct_end(),
  };
  if (EVP_MAC_CTX_set_params(context, params) == 1) return context;
  EVP_MAC_CTX_free(context);
  return nullptr;
}

std::unique_ptr<Opener> Opener::Create(const OpenerConfig& config) {
  std::unique_ptr<Opener> opener(new Opener());
  opener->kind_ = config.kind;
  opener->version_ = config.version;
  if (config.iv_length > sizeof opener->iv_) return nullptr;
  if (!opener->InitCipher(config)) return nullptr;
  if (IsCbc(config.kind) && !opener->InitMac(config)) return nullptr;
  return opener;
}

Opener::~Opener() {
  EVP_CIPHER_CTX_free(cipher_);  // OpenSSL cleanses the key schedule
  EVP_MAC_CTX_free(mac_);
  OPENSSL_cleanse(iv_, sizeof iv_);
}

bool Opener::InitCipher(const OpenerConfig& config) {
  EVP_CIPHER* cipher = FetchCipher(config.cipher);
  if (cipher == nullptr || static_cast<size_t>(EVP_CIPHER_get_key_length(cipher)) != config.key_length) return false;
  cipher_ = EVP_CIPHER_CTX_new();
  if (cipher_ == nullptr) return false;
  if (config.iv_length > 0) memcpy(iv_, config.iv, config.iv_length);

  if (IsCbc(kind_)) {
    block_ = static_cast<size_t>(EVP_CIPHER_get_block_size(cipher));
    // RFC 2246 6.2.3.2: TLS 1.0 chains the IV from record to record; from TLS 1.1 on each record carries its own.
    explicit_nonce_ = version_ == kTls10 ? 0 : block_;
    if (version_ == kTls10 && config.iv_length != block_) return false;
    return EVP_DecryptInit_ex(cipher_, cipher, nullptr, config.key, iv_) == 1 &&
           EVP_CIPHER_CTX_set_padding(cipher_, 0) == 1;
  }

  // RFC 5288 3: four implicit bytes and eight in the record; RFC 7905 2 and RFC 8446 5.3: twelve implicit bytes.
  const bool counter_nonce = version_ == kTls13 || kind_ == CipherKind::kChaCha20Poly1305;
  explicit_nonce_ = counter_nonce ? 0 : 8;
  if (config.iv_length != 12 - explicit_nonce_) return false;
  tag_length_ = kind_ == CipherKind::kCcm8 ? 8 : 16;
  if (EVP_DecryptInit_ex(cipher_, cipher, nullptr, nullptr, nullptr) != 1) return false;
  if (EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_SET_IVLEN, 12, nullptr) != 1) return false;
  if (IsCcm(kind_) &&
      EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(tag_length_), nullptr) != 1) {
    return false;
  }
  return EVP_DecryptInit_ex(cipher_, nullptr, nullptr, config.key, nullptr) == 1;
}

bool Opener::InitMac(const OpenerConfig& config) {
  mac_ = NewHmac(config.digest);
  if (mac_ == nullptr || EVP_MAC_init(mac_, config.mac_key, config.mac_key_length, nullptr) != 1) return false;
  mac_length_ = EVP_MAC_CTX_get_mac_size(mac_);
  return mac_length_ > 0 && mac_length_ <= kMaxMac;
}

size_t Opener::Overhead() const {
  if (!IsCbc(kind_)) return explicit_nonce_ + tag_length_;
  return explicit_nonce_ + mac_length_ + (kind_ == CipherKind::kCbcEncryptThenMac ? block_ : 1);
}

OpenStatus Opener::OpenRecords(const uint8_t* input, size_t start, size_t end, uint8_t* output, size_t capacity,
                               OpenResult* result) {
  OpenStatus status = OpenStatus::kNeedMore;
  size_t position = start;
  size_t written = 0;
  *result = {};
  while (end - position >= kHeaderLength) {
    const uint8_t* header = input + position;
    const size_t length = FragmentLength(header);
    // RFC 8446 5.1: protected records are outwardly application data; anything else is for the caller to judge.
    const bool type_fits = version_ == kTls13 ? header[0] == kApplicationData : header[0] >= 20 && header[0] <= 23;
    if (!type_fits || header[1] != 3 || length > kMaxFragment) {
      status = OpenStatus::kUnexpectedHeader;
      break;
    }
    if (end - position - kHeaderLength < length) break;
    if (capacity - written < length) {
      status = OpenStatus::kOutputFull;
      break;
    }
    size_t plain = 0;
    if (!Open(header, header + kHeaderLength, length, output + written, &plain)) {
      status = OpenStatus::kAuthenticationFailed;
      break;
    }
    ++sequence_;
    ++result->records;
    position += kHeaderLength + length;
    uint8_t type = header[0];
    if (version_ == kTls13) {
      // RFC 8446 5.4: the content type is the last octet that is not zero.
      while (plain > 0 && output[written + plain - 1] == 0) --plain;
      if (plain == 0) {
        status = OpenStatus::kMalformed;
        break;
      }
      type = output[written + --plain];
    }
    if (type != kApplicationData) {
      result->other_type = type;
      result->other_length = static_cast<int32_t>(plain);
      status = OpenStatus::kOtherType;
      break;
    }
    written += plain;
  }
  result->consumed = static_cast<int32_t>(position);
  result->app_length = static_cast<int32_t>(written);
  return status;
}

OpenStatus Opener::TryRecord(const uint8_t* input, size_t start, size_t end, uint32_t trials, uint8_t* output,
                             size_t capacity, OpenResult* result) {
  const uint64_t first = sequence_;
  *result = {};
  result->consumed = static_cast<int32_t>(start);
  if (end - start < kHeaderLength) return OpenStatus::kNeedMore;
  const size_t length = FragmentLength(input + start);
  if (end - start - kHeaderLength < length) return OpenStatus::kNeedMore;
  // Where each record's IV comes from the record before, its loss is the end.
  if (IsCbc(kind_) && explicit_nonce_ == 0) return OpenStatus::kAuthenticationFailed;
  for (uint32_t trial = 0; trial <= trials; ++trial) {
    sequence_ = first + trial;
    const OpenStatus status = OpenRecords(input, start, start + kHeaderLength + length, output, capacity, result);
    if (status != OpenStatus::kAuthenticationFailed) {
      if (result->records > 0) {
        result->skipped = static_cast<int32_t>(trial);
      } else {
        sequence_ = first;
      }
      return status;
    }
  }
  sequence_ = first;
  return OpenStatus::kAuthenticationFailed;
}

bool Opener::Open(const uint8_t* header, const uint8_t* fragment, size_t length, uint8_t* output,
                  size_t* plain_length) {
  if (length < Overhead()) return false;
  return IsCbc(kind_) ? OpenCbc(header, fragment, length, output, plain_length)
                      : OpenAead(header, fragment, length, output, plain_length);
}

bool Opener::OpenAead(const uint8_t* header, const uint8_t* fragment, size_t length, uint8_t* output,
                      size_t* plain_length) {
  uint8_t nonce[12];
  memcpy(nonce, iv_, sizeof nonce);
  if (explicit_nonce_ > 0) {
    memcpy(nonce + 4, fragment, explicit_nonce_);
  } else {
    for (int i = 0; i < 8; ++i) nonce[11 - i] ^= static_cast<uint8_t>(sequence_ >> (8 * i));
  }
  const size_t plain = length - explicit_nonce_ - tag_length_;
  const uint8_t* ciphertext = fragment + explicit_nonce_;
  uint8_t* tag = const_cast<uint8_t*>(ciphertext + plain);

  // RFC 8446 5.2: the header; RFC 5246 6.2.3.3: sequence number, type, version, length of the plaintext.
  uint8_t aad[13];
  size_t aad_length = kHeaderLength;
  if (version_ == kTls13) {
    memcpy(aad, header, kHeaderLength);
  } else {
    aad_length = sizeof aad;
    StoreU64(sequence_, aad);
    memcpy(aad + 8, header, 3);
    aad[11] = static_cast<uint8_t>(plain >> 8);
    aad[12] = static_cast<uint8_t>(plain);
  }

  int done = 0;
  // The tag goes in before the nonce: CCM wants it so, the others do not mind.
  if (EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(tag_length_), tag) != 1) return false;
  if (EVP_DecryptInit_ex(cipher_, nullptr, nullptr, nullptr, nonce) != 1) return false;
  if (IsCcm(kind_) && EVP_DecryptUpdate(cipher_, nullptr, &done, nullptr, static_cast<int>(plain)) != 1) return false;
  if (EVP_DecryptUpdate(cipher_, nullptr, &done, aad, static_cast<int>(aad_length)) != 1) return false;
  // CCM verifies the tag here, GCM and ChaCha20-Poly1305 at the end. CCM needs the call also for no bytes.
  if ((plain > 0 || IsCcm(kind_)) &&
      EVP_DecryptUpdate(cipher_, output, &done, ciphertext, static_cast<int>(plain)) != 1) {
    return false;
  }
  if (!IsCcm(kind_) && EVP_DecryptFinal_ex(cipher_, output + plain, &done) != 1) return false;
  *plain_length = plain;
  return true;
}

bool Opener::OpenCbc(const uint8_t* header, const uint8_t* fragment, size_t length, uint8_t* output,
                     size_t* plain_length) {
  uint8_t mac[kMaxMac];
  if (kind_ == CipherKind::kCbcEncryptThenMac) {
    // RFC 7366 3: the MAC covers IV and ciphertext and follows them in the clear.
    const size_t covered = length - mac_length_;
    if (!Mac(header, covered, fragment, covered, mac)) return false;
    if (CRYPTO_memcmp(mac, fragment + covered, mac_length_) != 0) return false;
    if (!DecryptCbc(fragment, covered, output, plain_length)) return false;
  } else if (!DecryptCbc(fragment, length, output, plain_length)) {
    return false;
  }
  if (*plain_length == 0) return false;
  // RFC 5246 6.2.3.2: each byte of the padding holds its length. No oracle to guard: nobody sees how long this takes.
  const size_t padding = output[*plain_length - 1];
  const size_t trailer = padding + 1 + (kind_ == CipherKind::kCbcMacThenEncrypt ? mac_length_ : 0);
  if (trailer > *plain_length) return false;
  for (size_t i = *plain_length - 1 - padding; i < *plain_length; ++i) {
    if (output[i] != padding) return false;
  }
  *plain_length -= trailer;
  if (kind_ == CipherKind::kCbcEncryptThenMac) return true;
  return Mac(header, *plain_length, output, *plain_length, mac) &&
         CRYPTO_memcmp(mac, output + *plain_length, mac_length_) == 0;
}

bool Opener::DecryptCbc(const uint8_t* fragment, size_t length, uint8_t* output, size_t* plain_length) {
  const size_t body = length - explicit_nonce_;
  if (body == 0 || body % block_ != 0) return false;
  if (explicit_nonce_ > 0 && EVP_DecryptInit_ex(cipher_, nullptr, nullptr, nullptr, fragment) != 1) return false;
  int done = 0;
  if (EVP_DecryptUpdate(cipher_, output, &done, fragment + explicit_nonce_, static_cast<int>(body)) != 1) return false;
  *plain_length = static_cast<size_t>(done);
  return true;
}

// RFC 5246 6.2.3.1: MAC(sequence number || type || version || length || data).
bool Opener::Mac(const uint8_t* header, size_t covered_length, const uint8_t* data, size_t length, uint8_t* mac) {
  uint8_t prefix[13];
  StoreU64(sequence_, prefix);
  memcpy(prefix + 8, header, 3);
  prefix[11] = static_cast<uint8_t>(covered_length >> 8);
  prefix[12] = static_cast<uint8_t>(covered_length);
  size_t mac_length = 0;
  return EVP_MAC_init(mac_, nullptr, 0, nullptr) == 1 && EVP_MAC_update(mac_, prefix, sizeof prefix) == 1 &&
         EVP_MAC_update(mac_, data, length) == 1 && EVP_MAC_final(mac_, mac, &mac_length, kMaxMac) == 1 &&
         mac_length == mac_length_;
}

}  // namespace wirespan
