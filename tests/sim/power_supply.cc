#include "tests/sim/power_supply.h"

namespace holdfast::sim {
namespace {

// A Kv that stops with the power.
class PoweredKv : public Kv {
 public:
  PoweredKv(std::unique_ptr<Kv> kv, PowerSupply& power) : kv_(std::move(kv)), power_(power) {}
  StatusOr<std::optional<std::string>> Get(std::string_view key) override {
    if (!power_.on()) return Off();
    return kv_->Get(key);
  }
  StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      const std::vector<std::string>& keys) override {
    if (!power_.on()) return Off();
    return kv_->MultiGet(keys);
  }
  Status Write(const KvBatch& batch, bool sync) override {
    if (!power_.Step()) return Off();
    RETURN_IF_ERROR(kv_->Write(batch, sync));
    return power_.Step() ? absl::OkStatus() : Off();  // Done, and nobody hears of it.
  }
  Status Flush() override {
    if (!power_.Step()) return Off();
    return kv_->Flush();
  }
  Status Scan(std::string_view start, std::string_view end,
              const std::function<bool(std::string_view, std::string_view)>& visit) override {
    if (!power_.on()) return Off();
    return kv_->Scan(start, end, visit);
  }
  std::unique_ptr<KvSnapshot> TakeSnapshot() override { return kv_->TakeSnapshot(); }
  Status VerifyAll() override { return power_.on() ? kv_->VerifyAll() : Off(); }

 private:
  static Status Off() { return absl::UnavailableError("the power is off"); }
  std::unique_ptr<Kv> kv_;
  PowerSupply& power_;
};

}  // namespace

std::unique_ptr<Kv> WithPower(std::unique_ptr<Kv> kv, PowerSupply& power) {
  return std::make_unique<PoweredKv>(std::move(kv), power);
}

bool PowerSupply::Step() {
  if (++kv_steps_ >= kv_cut_at_ && fs_.powered()) fs_.PowerCut();
  return fs_.powered();
}

void PowerSupply::CutAfter(uint64_t after) {
  // Half of the cuts are placed on the files' clock and half on the catalogue's and index's.
  kv_cut_at_ = after % 2 ? kv_steps_ + after / 4 + 1 : UINT64_MAX;
  if (after % 2 == 0) fs_.CutPowerAt(fs_.operations() + after);
}

}  // namespace holdfast::sim
