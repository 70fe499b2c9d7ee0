// For every parser of stored bytes: the header checksum, and the words for what is refused.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/status.h"

namespace holdfast {

// CRC-32C (Castagnoli), initial and final value as in iSCSI (RFC 3720): "123456789" → e3069283.
uint32_t Crc32c(Bytes bytes);
// Of what `crc` is of, followed by `bytes`.
uint32_t ExtendCrc32c(uint32_t crc, Bytes bytes);

// kFailedPrecondition: "<what> version 7 is not known to this release (knows 1)". A whole file or
// row of a newer release is not damage, and must not be treated as such.
Status UnknownVersion(std::string_view what, uint64_t found, uint64_t known);
Status UnknownSuite(std::string_view what, uint64_t found);
// kDataLoss: "<what> is damaged: <why>".
Status Damaged(std::string_view what, std::string_view why);

}  // namespace holdfast
