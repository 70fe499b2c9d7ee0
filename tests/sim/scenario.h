// What a simulated story is made of: a small file of lines "key value", or "key low high" for a
// number that each seed draws. "#" begins a comment. Weights of actions are relative; an action
// that is not named does not happen.
#pragma once

#include <map>
#include <string>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace holdfast::sim {

class Scenario {
 public:
  // kInvalidArgument names the line.
  static StatusOr<Scenario> Read(const std::string& path);

  // The number under `key`, drawn if it is a range; `otherwise` when the file does not name it.
  uint64_t Draw(const std::string& key, uint64_t otherwise, Rng& rng) const;
  // One of the actions "do NAME WEIGHT", by weight. `group` is "do",
  // "beside" for what happens between the objects of an ingest, or "soon" for what an ingest finds
  // happening at any moment. Empty when there is none.
  std::string Choose(const std::string& group, Rng& rng) const;

 private:
  struct Range {
    uint64_t low = 0, high = 0;
  };
  std::map<std::string, Range> numbers_;
  std::map<std::string, std::map<std::string, uint64_t>> actions_;  // By group.
};

}  // namespace holdfast::sim
