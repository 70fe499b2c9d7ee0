#include "common/crypto/check.h"

#include <isa-l/crc.h>

#include <string>

#include "common/crypto/domain_keys.h"

namespace holdfast {

uint32_t Crc32c(Bytes bytes) { return ExtendCrc32c(0, bytes); }

uint32_t ExtendCrc32c(uint32_t crc, Bytes bytes) {
  // ISA-L takes an int and only reads; nothing here is near 2 GiB.
  auto* data = const_cast<unsigned char*>(bytes.data());
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~crc);
}

Status UnknownVersion(std::string_view what, uint64_t found, uint64_t known) {
  return absl::FailedPreconditionError(std::string(what) + " version " + std::to_string(found) +
                                       " is not known to this release (knows " +
                                       std::to_string(known) + ")");
}

Status UnknownSuite(std::string_view what, uint64_t found) {
  return absl::FailedPreconditionError(std::string(what) + " suite " + std::to_string(found) +
                                       " is not known to this release (knows " +
                                       std::to_string(kSuite1) + ")");
}

Status Damaged(std::string_view what, std::string_view why) {
  return absl::DataLossError(std::string(what) + " is damaged: " + std::string(why));
}

}  // namespace holdfast
