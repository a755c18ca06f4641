// Opening of TLS records with OpenSSL's EVP. Plain C++: knows nothing of JavaScript.
//
// An Opener holds the keys of one direction of one connection, keyed once, and counts its record sequence numbers. No
// byte of a record is reported before its tag or MAC was verified.
#ifndef WIRESPAN_AEAD_H
#define WIRESPAN_AEAD_H

#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace wirespan {

enum class CipherKind : uint32_t {
  kGcm = 0,
  kCcm = 1,
  kCcm8 = 2,
  kChaCha20Poly1305 = 3,
  kCbcMacThenEncrypt = 4,
  kCbcEncryptThenMac = 5,
};

// Why OpenRecords returned. The TypeScript side repeats these numbers.
enum class OpenStatus : int32_t {
  kNeedMore = 0,              // no further whole record
  kOtherType = 1,             // the last record opened holds something else than application data
  kAuthenticationFailed = 2,  // the record at `consumed` is not authentic under this key and sequence number
  kUnexpectedHeader = 3,      // at `consumed` is no header of a record that these keys could open
  kOutputFull = 4,            // call again
  kMalformed = 5,             // authentic, but without content type (RFC 8446 5.4)
};

// What one call did, as the 32-bit integers that TypeScript reads.
struct OpenResult {
  int32_t consumed;      // position in the input behind the last record dealt with
  int32_t records;       // number of records opened
  int32_t app_length;    // application data, joined, at output[0..app_length)
  int32_t other_type;    // content type of the last record when the status is kOtherType
  int32_t other_length;  // its content is at output[app_length..app_length + other_length)
  int32_t skipped;       // TryRecord: sequence numbers passed over
};

struct OpenerConfig {
  CipherKind kind;
  uint32_t version;    // 0x0304 TLS 1.3, 0x0303 TLS 1.2, ...
  const char* cipher;  // OpenSSL's name, such as AES-128-GCM
  const char* digest;  // CBC only: the MAC's hash, such as SHA256
  const uint8_t* key;
  size_t key_length;
  const uint8_t* iv;  // AEAD: implicit part of the nonce (4 or 12 bytes); TLS 1.0 CBC: the first IV
  size_t iv_length;
  const uint8_t* mac_key;
  size_t mac_key_length;
};

class Opener {
 public:
  // Returns null when OpenSSL lacks the cipher or the lengths do not fit.
  static std::unique_ptr<Opener> Create(const OpenerConfig& config);
  ~Opener();
  Opener(const Opener&) = delete;
  Opener& operator=(const Opener&) = delete;

  // Opens whole records of input[start..end) one after the other, until one of them needs the caller's attention.
  OpenStatus OpenRecords(const uint8_t* input, size_t start, size_t end, uint8_t* output, size_t capacity,
                         OpenResult* result);

  // Opens the one whole record at `start` under the present sequence number or one of the next `trials`.
  OpenStatus TryRecord(const uint8_t* input, size_t start, size_t end, uint32_t trials, uint8_t* output,
                       size_t capacity, OpenResult* result);

  // Passes over the sequence numbers of records that were lost.
  void SkipSequence(uint32_t records) { sequence_ += records; }

 private:
  Opener() = default;
  bool InitCipher(const OpenerConfig& config);
  bool InitMac(const OpenerConfig& config);
  // Opens one record's fragment into `output`. Returns false when it is not authentic.
  bool Open(const uint8_t* header, const uint8_t* fragment, size_t length, uint8_t* output, size_t* plain_length);
  bool OpenAead(const uint8_t* header, const uint8_t* fragment, size_t length, uint8_t* output, size_t* plain_length);
  bool OpenCbc(const uint8_t* header, const uint8_t* fragment, size_t length, uint8_t* output, size_t* plain_length);
  bool DecryptCbc(const uint8_t* fragment, size_t length, uint8_t* output, size_t* plain_length);
  bool Mac(const uint8_t* header, size_t covered_length, const uint8_t* data, size_t length, uint8_t* mac);
  size_t Overhead() const;

  CipherKind kind_ = CipherKind::kGcm;
  uint32_t version_ = 0;
  uint64_t sequence_ = 0;
  uint8_t iv_[16] = {};
  size_t explicit_nonce_ = 0;  // bytes of nonce or IV that each record carries
  size_t tag_length_ = 0;
  size_t mac_length_ = 0;
  size_t block_ = 0;
  EVP_CIPHER_CTX* cipher_ = nullptr;
  EVP_MAC_CTX* mac_ = nullptr;
};

// Objects of one JavaScript environment, by small integer; 0 is none.
template <typename Item>
class HandleTable {
 public:
  uint32_t Add(std::unique_ptr<Item> item) {
    if (!free_.empty()) {
      const uint32_t handle = free_.back();
      free_.pop_back();
      items_[handle - 1] = std::move(item);
      return handle;
    }
    items_.push_back(std::move(item));
    return static_cast<uint32_t>(items_.size());
  }
  Item* Get(uint32_t handle) const {
    return handle == 0 || handle > items_.size() ? nullptr : items_[handle - 1].get();
  }
  void Release(uint32_t handle) {
    if (Get(handle) == nullptr) return;
    items_[handle - 1].reset();
    free_.push_back(handle);
  }
  size_t size() const { return items_.size() - free_.size(); }

 private:
  std::vector<std::unique_ptr<Item>> items_;
  std::vector<uint32_t> free_;
};

// A context for HMAC with that hash, without a key yet. nullptr when OpenSSL lacks it.
EVP_MAC_CTX* NewHmac(const char* digest);

}  // namespace wirespan

#endif
