// One reply that is not what was sent, made of any bytes, somewhere in what a cluster does: what a
// node or a coordinator that lies can do to a client, to the coordinator and to other nodes. What
// libFuzzer calls (tests/fuzz).
//
// The first byte says what is done meanwhile, the next two which of the replies is changed, the
// fourth how: 0 another head (after its 16-bit length) and other frames (each after its 16-bit
// length), 1 an error (a byte: its code), 2 and 3 places in the head or in the first frame (16
// bits) that get another byte.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/sim_ingest.h"

namespace holdfast::sim {

class ReplyFuzz {
 public:
  // Ends the process when a reader takes content that was not stored for it.
  void Run(Bytes input);
  // For a corpus to begin with: of everything that is done, replies of each method as they are.
  std::vector<Buffer> FirstInputs();
  // What FirstInputs saw replies to.
  const std::set<uint16_t>& answered() const { return answered_; }

 private:
  void Start();
  void Change(uint16_t method, StatusOr<RpcMessage>& reply);
  void Do(uint8_t what);
  void Read();
  void Ingest();
  void Remove();
  void Collect();
  void Check();
  void Repair();
  void Restart();

  std::unique_ptr<SimVault> sim_;
  Tree tree_;
  uint64_t runs_ = 0;  // On this vault.
  bool broken_ = false;
  Buffer input_;
  uint32_t replies_ = 0;  // So far, of the run.
  uint16_t changed_ = 0;  // The method whose reply was changed …
  int again_ = 0;         // … and how often its next ones are: it is asked again.
  std::function<void(uint16_t, const RpcMessage&)> record_;
  std::set<uint16_t> answered_;
};

}  // namespace holdfast::sim
