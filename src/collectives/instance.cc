#include "collectives/instance.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "collectives/moves.h"
#include "collectives/ragged.h"
#include "collectives/reductions.h"

namespace causeway::collectives {

std::shared_ptr<Instance> MakeInstance(proto::Collective::Kind kind, InstanceInit init) {
  switch (kind) {
    case proto::Collective::ALL_REDUCE:
    case proto::Collective::REDUCE_SCATTER:
      return std::make_shared<ReduceInstance>(std::move(init));
    case proto::Collective::RAGGED_ALL_TO_ALL:
      return std::make_shared<RaggedInstance>(std::move(init));
    default:
      return std::make_shared<MoveInstance>(std::move(init));
  }
}

std::string Describe(const Buffer& buffer) {
  return absl::StrCat(absl::string_view(Name(buffer.dtype)), "[", absl::StrJoin(buffer.dims, ","), "]");
}

int64_t ElementsOf(absl::Span<const int64_t> dims) {
  int64_t elements = 1;
  for (const int64_t dim : dims) elements = SaturatingMultiply(elements, dim);
  return elements;
}

Instance::Instance(InstanceInit init)
    : id_(init.id),
      parts_(std::move(init.parts)),
      host_(init.host),
      layouts_(std::move(init.layouts)),
      group_(init.group),
      arrivals_(init.group->locals()) {}

absl::Status Instance::Add(int slot, Arrival& arrival) {
  Arrival& place = arrivals_[slot];
  if (place.done != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", arrival.device, " has come twice to ", collective().name()));
  }
  place = std::move(arrival);
  ++arrived_;
  return absl::OkStatus();
}

void Instance::Start() {
  absl::Status status = CheckShapes();
  if (status.ok()) status = Check();
  if (status.ok()) {
    Run();
  } else {
    Break(Error(status.message()));
  }
  Release();
}

void Instance::GiveUp(const absl::Status& why) {
  Note(why);
  Release();
}

void Instance::PartCame(uint64_t slot, absl::Span<const char> bytes) {
  OnCame(slot, bytes);
  Release();
}

void Instance::PartInPlace(uint64_t slot) {
  OnInPlace(slot);
  Release();
}

void Instance::PartSent(uint64_t slot) {
  OnSent(slot);
  Release();
}

void Instance::PartFailed(const absl::Status& why) {
  Note(why);
  Release();
}

void Instance::Send(uint32_t round, uint32_t index, int worker, const Pieces& from, int64_t bytes, uint64_t slot) {
  if (bytes == 0) return;
  Hold();
  parts_->Send(IdOf(round, index, worker), from, bytes, shared_from_this(), slot);
}

void Instance::Expect(uint32_t round, uint32_t index, int worker, const Pieces& into, int64_t bytes, uint64_t slot) {
  if (bytes == 0) return;
  Hold();
  parts_->Expect(IdOf(round, index, worker), into, bytes, shared_from_this(), slot);
}

void Instance::ExpectMessage(uint32_t round, uint32_t index, int worker, uint64_t slot) {
  Hold();
  parts_->ExpectMessage(IdOf(round, index, worker), shared_from_this(), slot);
}

void Instance::Break(const absl::Status& why) {
  Note(why);
  parts_->Fail(why);
}

absl::Status Instance::Error(absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(collective().name(), ": ", what));
}

void Instance::Release() {
  if (holds_.fetch_sub(1, std::memory_order_acq_rel) == 1) Finish();
}

void Instance::Note(const absl::Status& why) {
  MutexLock lock(&mu_);
  if (!status_.ok()) return;
  status_ = why;
  failed_.store(true, std::memory_order_relaxed);
}

void Instance::Finish() {
  absl::Status status;
  {
    MutexLock lock(&mu_);
    status = status_;
  }
  // It may be the launch alone that holds this.
  const std::shared_ptr<Instance> self = shared_from_this();
  host_->Forget(id_);
  // An instance that was given up has not met everybody. A done may end the launch and the memory of other arrivals'
  // callers, but not the functions: they are ours.
  for (Arrival& arrival : arrivals_) {
    if (arrival.done != nullptr) std::exchange(arrival.done, nullptr)(status);
  }
}

absl::Status Instance::CheckShapes() const {
  const Arrival& first = arrivals_[0];
  for (const auto* buffers : {&first.operands, &first.results}) {
    for (const Buffer& buffer : *buffers) {
      if (HostByteWidth(buffer.dtype) == 0) return absl::InvalidArgumentError("an operand is of no element type");
      for (const int64_t dim : buffer.dims) {
        if (dim < 0) return absl::InvalidArgumentError("an operand has a negative dimension");
      }
      if (SaturatingMultiply(ElementsOf(buffer.dims), HostByteWidth(buffer.dtype)) >= int64_t{1} << 56) {
        return absl::InvalidArgumentError("an operand is too large");
      }
    }
  }
  const auto same = [](const auto& a, const auto& b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i) {
      if (a[i].dtype != b[i].dtype || a[i].dims != b[i].dims) return false;
    }
    return true;
  };
  for (size_t i = 1; i < arrivals_.size(); ++i) {
    if (!same(arrivals_[i].operands, first.operands) || !same(arrivals_[i].results, first.results)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the operands of devices ", first.device, " and ", arrivals_[i].device, " differ in shape"));
    }
  }
  return absl::OkStatus();
}

}  // namespace causeway::collectives
