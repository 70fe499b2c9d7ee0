// libFuzzer's entry for replies that are lies (tests/sim/reply_fuzz.h); scripts/fuzz.sh builds and
// runs it.
//   replies_fuzz --first DIR     writes inputs to begin with
#include <google/protobuf/stubs/logging.h>

#include <fstream>
#include <string>

#include "tests/sim/reply_fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  google::protobuf::SetLogHandler(nullptr);
  if (*argc != 3 || std::string((*argv)[1]) != "--first") return 0;
  int number = 0;
  for (const holdfast::Buffer& input : holdfast::sim::ReplyFuzz().FirstInputs()) {
    std::ofstream((*argv)[2] + ("/first-" + std::to_string(number++)), std::ios::binary)
        << holdfast::AsView(input);
  }
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const fuzz = new holdfast::sim::ReplyFuzz;
  fuzz->Run({data, size});
  return 0;
}
