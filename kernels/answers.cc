#include "kernels/answers.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace holdfast::kernels {

using core::duplicates::Digest;
using core::duplicates::KeyOf;

std::vector<uint32_t> FirstSame(std::span<const Digest> digests) {
  std::vector<uint32_t> order(digests.size()), first(digests.size());
  std::iota(order.begin(), order.end(), 0);
  const auto key = [&](uint32_t i) { return KeyOf(digests[i]); };
  std::ranges::stable_sort(order, {}, key);
  std::vector<uint64_t> keys(digests.size());
  std::ranges::transform(order, keys.begin(), key);
  for (size_t i = 0; i < keys.size(); ++i) {
    core::duplicates::MarkRun(keys.data(), order.data(), keys.size(), digests.data(), i,
                              first.data());
  }
  return first;
}

namespace {

// What the table had before this batch, and adds the rest.
void AskTable(std::span<Chunk* const> chunks, std::span<const Digest> digests,
              FingerprintTable& table) {
  std::vector<uint64_t> fingerprints(digests.size());
  std::ranges::transform(digests, fingerprints.begin(), KeyOf);
  std::vector<uint8_t> known(digests.size());
  // A table that fails knows nothing.
  if (table.Find(fingerprints, table.epoch(), known) != Status::kOk) return;
  std::vector<uint64_t> fresh;
  for (size_t i = 0; i < chunks.size(); ++i) {
    chunks[i]->maybe_known = known[i] != 0;
    if (known[i] == 0 && chunks[i]->first_same == i) fresh.push_back(fingerprints[i]);
  }
  table.Insert(fresh);
}

}  // namespace

void AnswerDuplicates(Batch& batch, FingerprintTable* table, const FirstSameFunction& first_same) {
  std::vector<Chunk*> chunks;
  for (Message& message : batch.messages) {
    for (Chunk& chunk : message.chunks) chunks.push_back(&chunk);
  }
  std::vector<Digest> digests(chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    std::memcpy(digests[i].bytes, chunks[i]->sha256.data(), sizeof digests[i].bytes);
  }
  const std::vector<uint32_t> first = first_same(digests);
  for (size_t i = 0; i < chunks.size(); ++i) {
    chunks[i]->first_same = first[i];
    chunks[i]->maybe_known = false;
  }
  if (table != nullptr) AskTable(chunks, digests, *table);
}

}  // namespace holdfast::kernels
