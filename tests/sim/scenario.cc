#include "tests/sim/scenario.h"

#include <fstream>
#include <sstream>

namespace holdfast::sim {

StatusOr<Scenario> Scenario::Read(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(path + ": no such scenario");
  Scenario scenario;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    std::istringstream line(text.substr(0, text.find('#')));
    std::string key;
    if (!(line >> key)) continue;
    bool good = false;
    if (key == "do" || key == "beside" || key == "soon") {
      std::string name;
      uint64_t weight = 0;
      good = static_cast<bool>(line >> name >> weight);
      scenario.actions_[key][name] = weight;
    } else {
      Range range;
      good = static_cast<bool>(line >> range.low);
      if (!(line >> range.high)) range.high = range.low;
      good = good && range.low <= range.high;
      scenario.numbers_[key] = range;
    }
    if (!good) {
      return absl::InvalidArgumentError(path + ":" + std::to_string(number) + ": " + text);
    }
  }
  return scenario;
}

uint64_t Scenario::Draw(const std::string& key, uint64_t otherwise, Rng& rng) const {
  auto it = numbers_.find(key);
  if (it == numbers_.end()) return otherwise;
  return it->second.low + rng.Below(it->second.high - it->second.low + 1);
}

std::string Scenario::Choose(const std::string& group, Rng& rng) const {
  auto it = actions_.find(group);
  if (it == actions_.end()) return "";
  uint64_t sum = 0;
  for (const auto& [name, weight] : it->second) sum += weight;
  if (sum == 0) return "";
  uint64_t dice = rng.Below(sum);
  for (const auto& [name, weight] : it->second) {
    if (dice < weight) return name;
    dice -= weight;
  }
  return "";
}

}  // namespace holdfast::sim
