// libFuzzer's entry for the table of parsers; scripts/fuzz.sh builds and runs it. The environment
// says which parser: HOLDFAST_PARSER=cluster-map.
//   formats_fuzz --list             names them
//   formats_fuzz --first DIR        writes inputs to begin with
#include <google/protobuf/stubs/logging.h>

#include <cstdio>
#include <fstream>

#include "tests/fuzz/parsers.h"

namespace holdfast::fuzz {
namespace {

const Parser* chosen = nullptr;

void Choose() {
  const char* name = std::getenv("HOLDFAST_PARSER");
  for (const Parser& parser : Parsers()) {
    if (name != nullptr && std::string_view(name) == parser.name) chosen = &parser;
  }
  if (chosen != nullptr) return;
  std::fprintf(stderr, "formats_fuzz: HOLDFAST_PARSER must name one of those of --list\n");
  std::exit(2);
}

void WriteSeeds(const std::string& dir) {
  int number = 0;
  for (const Buffer& seed : chosen->seeds()) {
    std::ofstream(dir + "/first-" + std::to_string(number++), std::ios::binary) << AsView(seed);
  }
}

}  // namespace
}  // namespace holdfast::fuzz

using namespace holdfast::fuzz;  // NOLINT: libFuzzer's entries are of no namespace.

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  google::protobuf::SetLogHandler(nullptr);
  const std::string option = *argc > 1 ? (*argv)[1] : "";
  if (option == "--list") {
    for (const Parser& parser : Parsers()) std::puts(parser.name);
    std::exit(0);
  }
  Choose();
  if (option == "--first" && *argc == 3) {
    WriteSeeds((*argv)[2]);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chosen->run({data, size});
  return 0;
}
