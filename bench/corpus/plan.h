// What a corpus is made of, before a byte is written: a pure function of the options.
//
// Each file is a list of pieces of pseudo-random streams. An original is one stream from its
// beginning, with the header of its kind over the first bytes; an exact duplicate is the same
// pieces under another name; an edited copy is an original with bytes inserted or cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace holdfast::corpus {

struct PlanOptions {
  std::string preset = "M";  // "M": images and videos. "S": small files. "V": mostly videos.
  uint64_t seed = 1;
  double scale = 1.0;      // Of the preset's file count and bytes.
  uint64_t files = 0;      // 0: the preset's, times scale.
  uint64_t bytes = 0;      // 0: the preset's, in proportion to the files.
  double duplicates = -1;  // Share of files that are exact duplicates; below 0: the preset's.
  double edited = -1;      // Share of files that are edited copies; below 0: the preset's.
  double videos = -1;      // Share of originals that are videos; below 0: the preset's.
  double sigma = -1;       // Of the log-normal sizes of the others; below 0: the preset's.
  // How copies are edited, any of it: bytes inserted near the head, cut off the tail, or inserted
  // anywhere.
  std::vector<std::string> edits = {"head", "tail", "inside"};
};

enum class StreamKind : uint8_t { kRaw, kImage, kVideo };

// Bytes [offset, offset + length) of a stream.
struct Piece {
  uint64_t stream = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  StreamKind kind = StreamKind::kRaw;
};

struct PlannedFile {
  std::string directory;  // One component.
  std::string name;
  std::vector<Piece> pieces;
  int64_t mtime_nanos = 0;

  uint64_t size() const;
};

struct Plan {
  std::vector<std::string> directories;
  std::vector<PlannedFile> files;  // In the order of their paths.
  uint64_t bytes = 0;
  uint64_t unique_bytes = 0;  // Of files with distinct content.
  uint64_t new_bytes = 0;     // What an ideal deduplicator would keep: originals and insertions.
  uint64_t duplicates = 0, edited = 0, videos = 0;  // Files.
};

// Throws std::invalid_argument for options that make no sense.
Plan MakePlan(const PlanOptions& options);

// Writes the bytes of a stream from `offset` on. A function of its arguments only; any slicing
// gives the same bytes. Incompressible, and far too weak for cryptography.
void FillStream(const Piece& piece, uint64_t seed, uint64_t offset, std::span<uint8_t> out);

}  // namespace holdfast::corpus
