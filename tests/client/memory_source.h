// A source whose files lie in memory, in the order given; files may change or fail while read.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/source.h"

namespace holdfast {

class MemorySource : public Source {
 public:
  struct Item {
    SourceEntry entry;
    std::string content;
    std::optional<uint64_t> listed_size;  // Where the file has grown between listing and opening.
    // Called after each read with how far it went.
    std::function<void(Item&, uint64_t)> after_read;
    Status read_error;
    // Gives the bytes instead of `content`, for files too long to keep.
    std::function<void(uint64_t, MutableBytes)> generate;
  };

  Item& AddFile(const std::string& name, std::string content) {
    Item& item = Add(name, ObjectType::kFile);
    item.entry.stamp.size = content.size();
    item.content = std::move(content);
    return item;
  }
  Item& AddGenerated(const std::string& name, uint64_t size,
                     std::function<void(uint64_t, MutableBytes)> generate) {
    Item& item = Add(name, ObjectType::kFile);
    item.entry.stamp.size = size;
    item.generate = std::move(generate);
    return item;
  }
  Item& AddHardLink(const std::string& name, const std::string& first, std::string content) {
    Item& item = AddFile(name, std::move(content));
    item.entry.type = ObjectType::kHardLink;
    item.entry.link = first;
    return item;
  }
  Item& AddDirectory(const std::string& name) { return Add(name, ObjectType::kDirectory); }
  Item& AddSymlink(const std::string& name, const std::string& target) {
    Item& item = Add(name, ObjectType::kSymlink);
    item.entry.link = target;
    return item;
  }
  Item& AddSpecial(const std::string& name) {
    Item& item = Add(name, ObjectType::kFile);
    item.entry.special = true;
    return item;
  }
  Item& AddError(const std::string& name, const Status& status) {
    Item& item = Add(name, ObjectType::kFile);
    item.entry.error = status;
    return item;
  }

  std::optional<SourceEntry> Next() override {
    if (next_ == items_.size()) return std::nullopt;
    Item& item = items_[next_++];
    SourceEntry entry = item.entry;
    if (item.listed_size) entry.stamp.size = *item.listed_size;
    entry.parent = std::shared_ptr<void>(&item, [](void*) {});
    return entry;
  }

  StatusOr<std::unique_ptr<SourceFile>> Open(SourceEntry& entry) override {
    Item& item = *static_cast<Item*>(entry.parent.get());
    entry.stamp = item.entry.stamp;
    entry.attributes = item.entry.attributes;
    if (open_files == max_open_files) return absl::ErrnoToStatus(EMFILE, "open");
    return std::make_unique<MemoryFile>(*this, item);
  }

  // Opened and not closed; as many as can be.
  std::atomic<int> open_files{0};
  int max_open_files = std::numeric_limits<int>::max();

  // As if the bytes lay on a disk, for as long as WillRead did not ask for them.
  bool cold = false;
  // Reads that had to wait; files that were asked for and not read yet, now and at most.
  std::atomic<int> waits{0}, asked{0}, most_asked{0};

 private:
  class MemoryFile : public SourceFile {
   public:
    MemoryFile(MemorySource& source, Item& item) : source_(source), item_(item) {
      ++source_.open_files;
    }
    ~MemoryFile() override { --source_.open_files; }
    StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) override {
      waited_ = source_.cold && offset >= asked_to_;
      source_.waits += waited_;
      source_.asked -= std::exchange(asked_, false);
      if (!item_.read_error.ok()) return item_.read_error;
      const uint64_t size = item_.generate ? item_.entry.stamp.size : item_.content.size();
      const size_t n = std::min<uint64_t>(out.size(), size - std::min(offset, size));
      if (item_.generate) {
        item_.generate(offset, out.first(n));
      } else {
        std::copy_n(item_.content.data() + offset, n, out.data());
      }
      if (item_.after_read) item_.after_read(item_, offset + n);
      return n;
    }
    StatusOr<FileStamp> Stamp() override { return item_.entry.stamp; }
    bool waited() const override { return waited_; }
    bool WillRead(uint64_t offset, uint64_t length) override {
      asked_to_ = std::max(asked_to_, offset + length);
      if (std::exchange(asked_, true)) return source_.cold;
      const int asked = ++source_.asked;
      int most = source_.most_asked;
      while (most < asked && !source_.most_asked.compare_exchange_weak(most, asked)) {
      }
      return source_.cold;
    }

   private:
    MemorySource& source_;
    Item& item_;
    bool waited_ = false, asked_ = false;
    uint64_t asked_to_ = 0;
  };

  Item& Add(const std::string& name, ObjectType type) {
    Item& item = items_.emplace_back();
    item.entry.name = name;
    item.entry.type = type;
    item.entry.stamp.mtime_nanos = 1'600'000'000'000'000'000;
    item.entry.attributes.mode = type == ObjectType::kDirectory ? 0755 : 0644;
    item.entry.attributes.mtime_seconds = 1'600'000'000;
    return item;
  }

  std::deque<Item> items_;
  size_t next_ = 0;
};

}  // namespace holdfast
