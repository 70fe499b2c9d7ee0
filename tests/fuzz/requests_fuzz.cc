// libFuzzer's entry (https://llvm.org/docs/LibFuzzer.html); scripts/fuzz.sh builds and runs it.
//   requests_fuzz --first DIR     writes inputs to begin with
#include <google/protobuf/stubs/logging.h>

#include <fstream>
#include <string>

#include "tests/sim/request_fuzz.h"

using holdfast::sim::RequestFuzz;

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  google::protobuf::SetLogHandler(nullptr);
  if (*argc != 3 || std::string((*argv)[1]) != "--first") return 0;
  int number = 0;
  for (const std::string& input : holdfast::sim::FirstInputs()) {
    std::ofstream((*argv)[2] + ("/first-" + std::to_string(number++)), std::ios::binary) << input;
  }
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const fuzz = new RequestFuzz;
  fuzz->Run({data, size});
  return 0;
}
