// The tests of this folder; and, with any of these options, what plays scenarios. A violation is
// printed with its seed, and replays exactly.
//   sim [--scenario S] [--seeds A-B]     seeds A to B (1-25)
//   sim [--scenario S] --seed N          one of them, with all its actions
//   sim [--scenario S] --soak MINUTES    one seed after another, from a random one on
// S is a file, or the name of one of scenarios/ (mixed).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>

#include "tests/sim/story.h"

namespace holdfast::sim {
namespace {

struct Args {
  std::string scenario = "mixed";
  uint64_t first = 1, last = 25;
  bool one = false;
  double soak_minutes = 0;
};

bool Parse(int argc, char** argv, Args& args) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--scenario") {
      args.scenario = value;
    } else if (option == "--seed") {
      args.first = args.last = std::strtoull(value.c_str(), nullptr, 10);
      args.one = true;
    } else if (option == "--seeds") {
      args.first = std::strtoull(value.c_str(), nullptr, 10);
      const size_t dash = value.find('-');
      if (dash == std::string::npos) return false;
      args.last = std::strtoull(value.c_str() + dash + 1, nullptr, 10);
    } else if (option == "--soak") {
      args.soak_minutes = std::strtod(value.c_str(), nullptr);
      args.first = std::random_device()() + (uint64_t{1} << 32);
      args.last = UINT64_MAX;
    } else {
      return false;
    }
  }
  if (args.scenario.find_first_of("/.") == std::string::npos) {
    args.scenario = HOLDFAST_SCENARIOS "/" + args.scenario + ".sim";
  }
  return argc % 2 == 1;
}

bool Plays(int argc, char** argv) {
  const auto is_option = [](std::string_view arg) {
    return arg == "--scenario" || arg == "--seed" || arg == "--seeds" || arg == "--soak";
  };
  return std::any_of(argv + 1, argv + argc, is_option);
}

void PrintLog(const Story& story) {
  for (const std::string& line : story.log()) std::printf("%s\n", line.c_str());
  std::printf("%llu requests, trace %llx\n", static_cast<unsigned long long>(story.requests()),
              static_cast<unsigned long long>(story.trace()));
}

int Main(int argc, char** argv) {
  Args args;
  if (!Parse(argc, argv, args)) {
    std::fprintf(stderr, "usage: sim [--scenario S] [--seed N | --seeds A-B | --soak MINUTES]\n");
    return 2;
  }
  const StatusOr<Scenario> scenario = Scenario::Read(args.scenario);
  if (!scenario.ok()) {
    std::fprintf(stderr, "sim: %s\n", Message(scenario.status()).c_str());
    return 2;
  }
  const auto began = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  Story::Counts all;
  uint64_t played = 0;
  for (uint64_t seed = args.first; seed <= args.last; ++seed) {
    if (args.soak_minutes > 0 && seconds() > 60 * args.soak_minutes) break;
    Story story(*scenario, seed);
    const std::string violation = story.Play();
    all.Add(story.counts());
    ++played;
    if (args.one) PrintLog(story);
    if (violation.empty()) continue;
    std::printf("seed %llu: %s\nreplay with: sim --scenario %s --seed %llu\n",
                static_cast<unsigned long long>(seed), violation.c_str(), args.scenario.c_str(),
                static_cast<unsigned long long>(seed));
    return 1;
  }
  const auto n = [](uint64_t v) { return static_cast<unsigned long long>(v); };
  std::printf(
      "%llu seeds in %.0f s: %llu objects acknowledged, %llu removed, %llu undone, %llu "
      "collections "
      "(%llu interrupted), %llu records trashed, %llu let go of, %llu catalogues lost, %llu "
      "cloned, "
      "%llu put back, %llu bits flipped: no violation\n",
      n(played), seconds(), n(all.acked), n(all.removed), n(all.undone), n(all.collections),
      n(all.interrupted), n(all.trashed), n(all.freed), n(all.restores), n(all.clones),
      n(all.put_back), n(all.flips));
  return 0;
}

}  // namespace
}  // namespace holdfast::sim

int main(int argc, char** argv) {
  if (holdfast::sim::Plays(argc, argv)) return holdfast::sim::Main(argc, argv);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
