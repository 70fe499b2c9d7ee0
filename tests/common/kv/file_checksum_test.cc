#include "common/kv/file_checksum.h"

#include <gtest/gtest.h>

#include "common/base/rng.h"

namespace holdfast {
namespace {

std::unique_ptr<rocksdb::FileChecksumGenerator> Make(rocksdb::FileChecksumGenFactory& factory,
                                                     const std::string& wanted) {
  rocksdb::FileChecksumGenContext context;
  context.requested_checksum_func_name = wanted;
  return factory.CreateFileChecksumGenerator(context);
}

// Databases of before have RocksDB's own.
TEST(FileChecksum, IsTheOneOfRocksDb) {
  const auto ours = FastFileChecksums();
  const auto theirs = rocksdb::GetFileChecksumGenCrc32cFactory();
  SimRng rng(1);
  for (size_t size : {0, 1, 7, 4096, 100'003}) {
    std::string file(size, 0);
    rng.Fill({reinterpret_cast<uint8_t*>(file.data()), file.size()});
    const auto a = Make(*ours, ""), b = Make(*theirs, "");
    ASSERT_STREQ(a->Name(), b->Name());
    for (size_t at = 0; at < size;) {
      const size_t part = std::min<size_t>(size - at, 1 + rng.Below(5000));
      a->Update(file.data() + at, part);
      at += part;
    }
    b->Update(file.data(), size);
    a->Finalize();
    b->Finalize();
    EXPECT_EQ(a->GetChecksum(), b->GetChecksum()) << size;
  }
  EXPECT_NE(Make(*ours, "FileChecksumCrc32c"), nullptr);
  EXPECT_EQ(Make(*ours, "another"), nullptr);
}

}  // namespace
}  // namespace holdfast
