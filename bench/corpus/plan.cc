#include "bench/corpus/plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numbers>
#include <stdexcept>

namespace holdfast::corpus {
namespace {

static_assert(std::endian::native == std::endian::little, "streams are little-endian words");

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
constexpr int64_t kFirstMtimeNanos = 1'600'000'000'000'000'000;

// SplitMix64's output function (Steele, Lea, Flood 2014).
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(Mix(seed + kGolden)) {}

  uint64_t Next() { return Mix(state_ += kGolden); }
  // In [0, n); the bias of the modulus does not matter here.
  uint64_t Below(uint64_t n) { return Next() % n; }
  uint64_t Between(uint64_t low, uint64_t high) { return low + Below(high - low + 1); }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  double Normal() {  // Box and Muller
    const double radius = std::sqrt(-2.0 * std::log(1.0 - Unit()));
    return radius * std::cos(2.0 * std::numbers::pi * Unit());
  }

 private:
  uint64_t state_;
};

// The first bytes of a JPEG (SOI, JFIF APP0) and of an MP4 (ftyp, then an mdat of unknown size).
constexpr std::array<uint8_t, 20> kImageHeader = {0xff, 0xd8, 0xff, 0xe0, 0x00, 0x10, 'J',
                                                  'F',  'I',  'F',  0x00, 0x01, 0x01, 0x00,
                                                  0x00, 0x01, 0x00, 0x01, 0x00, 0x00};
constexpr std::array<uint8_t, 40> kVideoHeader = {
    0,   0,   0,   32,  'f', 't', 'y', 'p', 'i', 's', 'o', 'm', 0, 0, 2, 0, 'i', 's', 'o', 'm',
    'i', 's', 'o', '2', 'a', 'v', 'c', '1', 'm', 'p', '4', '1', 0, 0, 0, 0, 'm', 'd', 'a', 't'};

struct Shape {
  uint64_t files;
  uint64_t bytes;
  double duplicates;
  double edited;
  double videos;  // Share of the originals.
  double sigma;   // Of the log-normal sizes.
  uint64_t min_size;
  uint64_t per_directory;
};

Shape ShapeOf(const PlanOptions& options) {
  Shape shape;
  if (options.preset == "M") {
    shape = {5'147, 3'000'000'000, 0.35, 0.10, 0.01, 0.6, 8 * 1024, 256};
  } else if (options.preset == "S") {
    shape = {150'000, 2'250'000'000, 0.50, 0.0, 0.0, 0.5, 512, 1'000};
  } else if (options.preset == "V") {
    shape = {320, 8'000'000'000, 0.15, 0.05, 0.70, 0.6, 8 * 1024, 64};
  } else {
    throw std::invalid_argument("no such preset: " + options.preset + " (there are M, S and V)");
  }
  if (!(options.scale > 0 && options.scale <= 1e6)) {
    throw std::invalid_argument("--scale must be above 0 and at most 1000000");
  }
  const double bytes_per_file = static_cast<double>(shape.bytes) / static_cast<double>(shape.files);
  shape.files =
      options.files != 0
          ? options.files
          : static_cast<uint64_t>(std::llround(static_cast<double>(shape.files) * options.scale));
  shape.files = std::max<uint64_t>(shape.files, 1);
  shape.bytes = options.bytes != 0
                    ? options.bytes
                    : static_cast<uint64_t>(bytes_per_file * static_cast<double>(shape.files));
  if (options.duplicates >= 0) shape.duplicates = options.duplicates;
  if (options.edited >= 0) shape.edited = options.edited;
  if (options.videos >= 0) shape.videos = options.videos;
  if (options.sigma >= 0) shape.sigma = options.sigma;
  if (shape.videos > 1 || shape.sigma > 4) {
    throw std::invalid_argument("--videos is a share, up to 1, and --sigma at most 4");
  }
  if (shape.duplicates + shape.edited >= 1) {
    throw std::invalid_argument("--duplicates and --edited must be below 1 together");
  }
  return shape;
}

struct Original {
  StreamKind kind = StreamKind::kImage;
  uint64_t size = 0;
  uint64_t copies = 1;  // Files that have this content or most of it.
};

// Which original each copy is of. Videos are copied less often than images, as on real shares:
// one duplicate for five of them, one edited copy for twenty.
std::vector<uint64_t> ChooseOriginals(uint64_t count, uint64_t videos, uint64_t videos_per_copy,
                                      std::vector<Original>& originals, Random& random) {
  const uint64_t of_videos = videos / videos_per_copy;
  std::vector<uint64_t> chosen(count);
  for (uint64_t i = 0; i < count; ++i) {
    const bool video = i < of_videos || videos == originals.size();
    chosen[i] = video ? random.Below(videos) : videos + random.Below(originals.size() - videos);
    ++originals[chosen[i]].copies;
  }
  return chosen;
}

std::vector<Original> DrawOriginals(uint64_t count, uint64_t videos, const Shape& shape,
                                    Random& random) {
  std::vector<Original> originals(count);
  for (uint64_t i = 0; i < count; ++i) {
    if (i < videos) {
      // Log-uniform in 20–90 MB, one draw from each of `videos` strata.
      const double quantile =
          (static_cast<double>(i) + random.Unit()) / static_cast<double>(videos);
      originals[i] = {StreamKind::kVideo,
                      static_cast<uint64_t>(20e6 * std::pow(90.0 / 20.0, quantile))};
    } else {
      const double mean = static_cast<double>(shape.bytes) / static_cast<double>(shape.files);
      originals[i] = {StreamKind::kImage,
                      static_cast<uint64_t>(mean * std::exp(shape.sigma * random.Normal()))};
    }
  }
  return originals;
}

// Scales the images so that all files together have the bytes asked for, within reason.
void FitToBytes(const Shape& shape, std::vector<Original>& originals) {
  double images = 0, videos = 0;
  for (const Original& original : originals) {
    (original.kind == StreamKind::kVideo ? videos : images) +=
        static_cast<double>(original.size) * static_cast<double>(original.copies);
  }
  if (images <= 0) return;
  const double factor = std::clamp((static_cast<double>(shape.bytes) - videos) / images, 0.25, 4.0);
  for (Original& original : originals) {
    if (original.kind != StreamKind::kImage) continue;
    const double size = static_cast<double>(original.size) * factor;
    original.size = std::max(shape.min_size, static_cast<uint64_t>(size));
  }
}

// How copies are edited: bytes inserted near the head (as a metadata editor does), the tail cut (as
// that of a broken copy is), or 64 bytes inserted somewhere.
enum class EditKind : uint8_t { kHead, kTail, kInside };

std::vector<EditKind> EditKinds(const std::vector<std::string>& names) {
  std::vector<EditKind> kinds;
  for (const std::string& name : names) {
    if (name != "head" && name != "tail" && name != "inside") {
      throw std::invalid_argument("--edits takes head, tail and inside, not \"" + name + "\"");
    }
    kinds.push_back(name == "head"   ? EditKind::kHead
                    : name == "tail" ? EditKind::kTail
                                     : EditKind::kInside);
  }
  if (kinds.empty()) throw std::invalid_argument("--edits takes head, tail and inside");
  return kinds;
}

std::vector<Piece> Edit(const Piece& whole, EditKind kind, uint64_t insert_stream, Random& random) {
  const auto slice = [&](uint64_t begin, uint64_t end) {
    return Piece{whole.stream, begin, end - begin, whole.kind};
  };
  const uint64_t size = whole.length;
  switch (kind) {
    case EditKind::kHead: {
      const uint64_t at = kImageHeader.size();
      return {slice(0, at), {insert_stream, 0, random.Between(16, 4096)}, slice(at, size)};
    }
    case EditKind::kTail:
      return {slice(0, size - random.Between(size / 100, size / 10))};
    case EditKind::kInside:
      break;
  }
  const uint64_t at = random.Between(size / 10, size - size / 10);
  return {slice(0, at), {insert_stream, 0, 64}, slice(at, size)};
}

std::string Numbered(const char* before, uint64_t number, const char* after) {
  std::array<char, 64> buffer;
  std::snprintf(buffer.data(), buffer.size(), "%s%06llu%s", before,
                static_cast<unsigned long long>(number), after);
  return buffer.data();
}

void NameFiles(const Shape& shape, uint64_t seed, Plan& plan, Random& random) {
  for (uint64_t i = plan.files.size(); i > 1; --i) {  // Fisher and Yates
    std::swap(plan.files[i - 1], plan.files[random.Below(i)]);
  }
  for (uint64_t i = 0; i < plan.files.size(); ++i) {
    PlannedFile& file = plan.files[i];
    if (i % shape.per_directory == 0) {
      plan.directories.push_back(Numbered("share-", i / shape.per_directory, ""));
    }
    file.directory = plan.directories.back();
    const bool video = file.pieces[0].kind == StreamKind::kVideo;
    file.name = video ? Numbered("VID_", i, ".mp4") : Numbered("IMG_", i, ".jpg");
    file.mtime_nanos = kFirstMtimeNanos + static_cast<int64_t>(i) * 61'000'000'000 +
                       static_cast<int64_t>(Mix(seed + i) % 1'000'000'000);
    if (video) ++plan.videos;
  }
}

}  // namespace

uint64_t PlannedFile::size() const {
  uint64_t size = 0;
  for (const Piece& piece : pieces) size += piece.length;
  return size;
}

Plan MakePlan(const PlanOptions& options) {
  const Shape shape = ShapeOf(options);
  const std::vector<EditKind> kinds = EditKinds(options.edits);
  const auto share = [&](double part) {
    return static_cast<uint64_t>(static_cast<double>(shape.files) * part);
  };
  Random random(options.seed);
  Plan plan;
  plan.duplicates = share(shape.duplicates);
  plan.edited = share(shape.edited);
  const uint64_t count = shape.files - plan.duplicates - plan.edited;
  const uint64_t videos =
      static_cast<uint64_t>(std::llround(static_cast<double>(count) * shape.videos));
  std::vector<Original> originals = DrawOriginals(count, videos, shape, random);
  const std::vector<uint64_t> duplicates =
      ChooseOriginals(plan.duplicates, videos, 5, originals, random);
  const std::vector<uint64_t> edited = ChooseOriginals(plan.edited, videos, 20, originals, random);
  FitToBytes(shape, originals);

  const auto add = [&](std::vector<Piece> pieces) -> uint64_t {
    plan.files.push_back({.pieces = std::move(pieces)});
    const uint64_t size = plan.files.back().size();
    plan.bytes += size;
    return size;
  };
  const auto whole = [&](uint64_t i) { return Piece{i, 0, originals[i].size, originals[i].kind}; };
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t size = add({whole(i)});
    plan.unique_bytes += size;
    plan.new_bytes += size;
  }
  for (const uint64_t i : duplicates) add({whole(i)});
  for (uint64_t k = 0; k < edited.size(); ++k) {
    const uint64_t insert_stream = count + k;
    const EditKind kind = kinds[random.Below(kinds.size())];
    plan.unique_bytes += add(Edit(whole(edited[k]), kind, insert_stream, random));
    for (const Piece& piece : plan.files.back().pieces) {
      if (piece.stream == insert_stream) plan.new_bytes += piece.length;
    }
  }
  NameFiles(shape, options.seed, plan, random);
  return plan;
}

void FillStream(const Piece& piece, uint64_t seed, uint64_t offset, std::span<uint8_t> out) {
  const uint64_t key = Mix(Mix(seed) + (piece.stream + 1) * kGolden);
  uint8_t* to = out.data();
  uint64_t word = offset / 8;
  size_t left = out.size();
  const auto value = [&](uint64_t index) { return Mix(key + (index + 1) * kGolden); };
  if (const size_t skip = offset % 8; skip != 0 && left != 0) {
    const uint64_t bits = value(word++) >> (8 * skip);
    const size_t n = std::min(left, 8 - skip);
    std::memcpy(to, &bits, n);
    to += n;
    left -= n;
  }
  for (; left >= 8; left -= 8, to += 8) {
    const uint64_t bits = value(word++);
    std::memcpy(to, &bits, 8);
  }
  if (left != 0) {
    const uint64_t bits = value(word);
    std::memcpy(to, &bits, left);
  }
  const std::span<const uint8_t> header =
      piece.kind == StreamKind::kImage   ? std::span<const uint8_t>(kImageHeader)
      : piece.kind == StreamKind::kVideo ? std::span<const uint8_t>(kVideoHeader)
                                         : std::span<const uint8_t>();
  if (offset < header.size() && !out.empty()) {
    const size_t n = std::min(header.size() - offset, out.size());
    std::memcpy(out.data(), header.data() + offset, n);
  }
}

}  // namespace holdfast::corpus
