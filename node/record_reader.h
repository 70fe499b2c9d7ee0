// Reads payloads of indexed records, checked. Blocking; stateless, so any thread may call it.
#pragma once

#include <optional>
#include <vector>

#include "common/io/fs.h"
#include "node/index.h"

namespace holdfast {

struct RecordRead {
  RecordId id;
  IndexEntry entry;
  enum class Result : uint8_t {
    kGood,
    kBad,
    kUnreadable,
    kRefused,  // As IsRefused has it.
  } result = Result::kUnreadable;
  SharedBytes payload;                 // If asked for and good.
  std::optional<RecordHeader> header;  // If it could be read.
};

// Neighbours are read together; payloads that were read together share memory.
void ReadRecords(Fs& fs, const std::string& dir, std::vector<RecordRead>& reads,
                 bool keep_payloads);

}  // namespace holdfast
