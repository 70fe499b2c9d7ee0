// One message to a coordinator or a node of a cluster, made of any bytes: what libFuzzer calls
// (tests/fuzz), and what plays its corpus again. tests/e2e/curve.py reads the same bytes and sends
// the same message through real sockets.
//
// Integers are little-endian. The first byte: its low two bits say whom to (0 the coordinator, else
// a node), and when its highest is set, envelope and head follow as they are, each after its 16-bit
// length, and the rest is the body. Otherwise a well-formed envelope is made: 8 bits of method, 8
// of how many payloads (the low three count), 16 bits of length for each, the head after its
// length, then the payloads, as far as there are bytes.
#pragma once

#include <memory>
#include <vector>

#include "tests/sim/sim_ingest.h"

namespace holdfast::sim {

class RequestFuzz {
 public:
  RequestFuzz();
  // Delivers it as from a caller who may do everything, and waits for the answer, if it is a
  // request. False: the envelope is none.
  bool Run(Bytes input);
  // Is everything still answering?
  void Check();

 private:
  void Start();

  std::unique_ptr<SimVault> sim_;
  size_t runs_ = 0;  // On this vault.
};

// For a corpus to begin with: every method, with heads whose fields hold what such fields do.
std::vector<std::string> FirstInputs();

// Every input of a file with one in each line, in base64.
std::vector<std::string> ReadCorpus(const std::string& path);

}  // namespace holdfast::sim
