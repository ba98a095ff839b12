#include "ifrt/numbering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/origin.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using xla::ifrt::proxy::IfrtRequest;
using xla::ifrt::proxy::IfrtResponse;

IfrtCall Call(uint64_t op, uint64_t context, IfrtRequest::RequestCase kind) { return IfrtCall{op, context, kind}; }

IfrtResponse Good(ResponseNumbering& numbering, const IfrtCall& call) {
  IfrtResponse response;
  response.mutable_check_value_ready_response();
  numbering.Stamp(call, response);
  return response;
}

TEST(NumberingTest, AnswersAreNumberedFromZeroWithoutGaps) {
  ResponseNumbering numbering;
  EXPECT_EQ(Good(numbering, Call(1, 0, IfrtRequest::kInitRequest)).response_metadata().seq_num(), -1);
  EXPECT_EQ(Good(numbering, Call(2, 0, IfrtRequest::kCompileRequest)).response_metadata().seq_num(), 0);
  Good(numbering, Call(3, 0, IfrtRequest::kDestructArrayRequest));
  Good(numbering, Call(4, 0, IfrtRequest::kDeleteArrayRequest));
  IfrtCall deletion = Call(5, 0, IfrtRequest::kCheckFutureRequest);
  deletion.of_deletion = true;
  Good(numbering, deletion);
  IfrtResponse error;
  numbering.StampError(Call(6, 0, IfrtRequest::kCopyArraysRequest), absl::NotFoundError("x"), error);
  EXPECT_EQ(Good(numbering, Call(7, 0, IfrtRequest::kCheckFutureRequest)).response_metadata().seq_num(), 1);
}

TEST(NumberingTest, AContextIsReturnedWithTheAnswerToItsRequest) {
  ResponseNumbering numbering;
  EXPECT_THAT(
      Good(numbering, Call(1, 77, IfrtRequest::kCompileRequest)).response_metadata().destroyed_user_context_ids(),
      ElementsAre(77));
  EXPECT_THAT(
      Good(numbering, Call(2, 0, IfrtRequest::kCompileRequest)).response_metadata().destroyed_user_context_ids(),
      IsEmpty());
}

TEST(NumberingTest, TheContextOfAnErrorIsReturnedOnceWithTheNextAnswer) {
  ResponseNumbering numbering;
  IfrtResponse error;
  error.mutable_compile_response();
  numbering.StampError(Call(1, 77, IfrtRequest::kCompileRequest), absl::NotFoundError("x"), error);
  EXPECT_EQ(error.response_case(), IfrtResponse::RESPONSE_NOT_SET);
  EXPECT_EQ(error.response_metadata().op_id(), 1u);
  EXPECT_EQ(error.response_metadata().status().code(), tensorflow::error::NOT_FOUND);
  EXPECT_THAT(error.response_metadata().destroyed_user_context_ids(), IsEmpty());
  EXPECT_THAT(
      Good(numbering, Call(2, 78, IfrtRequest::kCompileRequest)).response_metadata().destroyed_user_context_ids(),
      ElementsAre(77, 78));
  EXPECT_THAT(
      Good(numbering, Call(3, 79, IfrtRequest::kCompileRequest)).response_metadata().destroyed_user_context_ids(),
      ElementsAre(79));
}

constexpr char kPayload[] = "type.googleapis.com/ifrt.UserContext";

std::string NamedContext(const IfrtResponse& error) {
  const auto& payload = error.response_metadata().status().payload();
  const auto found = payload.find(kPayload);
  return found == payload.end() ? "" : found->second;
}

TEST(NumberingTest, AnErrorNamesTheContextOfItsOriginWhileTheClientHasIt) {
  ResponseNumbering numbering;
  numbering.contexts().Opened(70);
  Good(numbering, Call(1, 70, IfrtRequest::kLoadedExecutableExecuteRequest));
  numbering.contexts().Closed(70, /*failed=*/true);
  const absl::Status failed = WithOrigin(absl::InternalError("x"), 70);
  IfrtResponse error;
  numbering.StampError(Call(2, 77, IfrtRequest::kCheckValueReadyRequest), failed, error);
  EXPECT_EQ(NamedContext(error), "70");
  EXPECT_EQ(error.response_metadata().status().message(), "x");
  IfrtResponse other;
  numbering.StampError(Call(3, 77, IfrtRequest::kCheckValueReadyRequest), WithOrigin(absl::InternalError("x"), 71),
                       other);
  EXPECT_EQ(NamedContext(other), "") << "the client would show the number";
}

TEST(NumberingTest, ARequestThatFailsItselfNamesNoContext) {
  ResponseNumbering numbering;
  numbering.contexts().Opened(70);
  numbering.contexts().Closed(70, /*failed=*/true);
  IfrtResponse error;
  numbering.StampError(Call(1, 70, IfrtRequest::kLoadedExecutableExecuteRequest),
                       WithOrigin(absl::InternalError("x"), 70), error);
  EXPECT_EQ(NamedContext(error), "") << "the exception is raised where that is";
  EXPECT_TRUE(numbering.contexts().IsKept(70)) << "its results hold the error too";
}

// What the stock client does with numbers and ids. It reads responses in their order, but is done with each of them
// when its caller is.
class StockClient {
 public:
  void Request(uint64_t context) {
    if (context != 0) ++contexts_[context];
  }

  // Begins to process a response; Finish does the rest.
  void Read(const IfrtResponse& response, bool processed) {
    const auto& metadata = response.response_metadata();
    if (response.response_case() == IfrtResponse::RESPONSE_NOT_SET) {
      ASSERT_THAT(metadata.destroyed_user_context_ids(), IsEmpty()) << "nobody looks at them in an error";
      if (const std::string named = NamedContext(response); !named.empty()) {
        ASSERT_TRUE(contexts_.contains(std::stoull(named))) << "it would show the number";
        ++tracebacks_;
      }
      return;
    }
    if (!processed) {
      ASSERT_THAT(metadata.destroyed_user_context_ids(), IsEmpty()) << "nobody looks at them there";
      return;
    }
    ASSERT_TRUE(returns_
                    .emplace(metadata.seq_num(), std::vector<uint64_t>(metadata.destroyed_user_context_ids().begin(),
                                                                       metadata.destroyed_user_context_ids().end()))
                    .second)
        << "number " << metadata.seq_num() << " comes twice";
    unfinished_.push_back(metadata.seq_num());
  }

  // Its caller is done with one of the responses.
  void Finish(size_t which) {
    const auto it = std::next(unfinished_.begin(), static_cast<int64_t>(which % unfinished_.size()));
    finished_.insert(*it);
    unfinished_.erase(it);
    while (!finished_.empty() && *finished_.begin() == next_) {
      for (uint64_t id : returns_[next_]) {
        const auto context = contexts_.find(id);
        ASSERT_TRUE(context != contexts_.end()) << "the client aborts: context " << id << " is returned too often";
        if (--context->second == 0) contexts_.erase(context);
      }
      returns_.erase(next_);
      finished_.erase(finished_.begin());
      ++next_;
    }
  }

  bool HasUnfinished() const { return !unfinished_.empty(); }
  size_t contexts() const { return contexts_.size(); }
  int64_t next() const { return next_; }
  int tracebacks() const { return tracebacks_; }

 private:
  std::map<uint64_t, int> contexts_;
  std::map<int64_t, std::vector<uint64_t>> returns_;
  std::deque<int64_t> unfinished_;
  std::set<int64_t> finished_;
  int64_t next_ = 0;
  int tracebacks_ = 0;
};

// A server with requests of all kinds under way: each is answered at any time, in any order, and what it makes, if
// anything, is opened before and closed at any time.
class RandomServer {
 public:
  explicit RandomServer(uint64_t seed) : random_(seed) {}

  void Step() {
    const uint64_t what = random_() % 8;
    if (what < 3) Request();
    if (what < 5 && !waiting_.empty()) AnswerOne();
    if (what < 7 && !open_.empty()) CloseOne();
    if (client_.HasUnfinished() && what % 2 == 0) client_.Finish(random_());
  }

  void Drain() {
    while (!waiting_.empty()) AnswerOne();
    while (!open_.empty()) CloseOne();
    // What was closed last rides on an answer, and failures go when others have come.
    for (uint64_t i = 0; i <= UserContexts::kMaxFailed; ++i) {
      numbering_.contexts().Opened(kNobodys + i);
      numbering_.contexts().Closed(kNobodys + i, /*failed=*/true);
    }
    waiting_.push_back(Waiting{Call(++last_op_, 0, IfrtRequest::kCheckFutureRequest)});
    AnswerOne(/*may_fail=*/false);
    while (client_.HasUnfinished()) client_.Finish(random_());
  }

  const StockClient& client() const { return client_; }
  int64_t numbered() const { return numbered_; }

 private:
  static constexpr uint64_t kNobodys = uint64_t{1} << 32;

  struct Waiting {
    IfrtCall call;
    bool makes = false;
  };

  void Request() {
    static constexpr IfrtRequest::RequestCase kKinds[] = {
        IfrtRequest::kLoadedExecutableExecuteRequest, IfrtRequest::kMakeArrayFromHostBufferRequest,
        IfrtRequest::kCheckValueReadyRequest,         IfrtRequest::kCheckFutureRequest,
        IfrtRequest::kDestructArrayRequest,           IfrtRequest::kDeleteArrayRequest};
    const auto kind = kKinds[random_() % std::size(kKinds)];
    Waiting waiting{Call(++last_op_, 0, kind)};
    const bool batched = kind == IfrtRequest::kDestructArrayRequest || kind == IfrtRequest::kDeleteArrayRequest;
    waiting.call.of_deletion = kind == IfrtRequest::kCheckFutureRequest && random_() % 2 == 0;
    // Few places in the program, or a new one each time; some requests carry none.
    if (!batched && !waiting.call.of_deletion && random_() % 8 != 0) {
      waiting.call.user_context = random_() % 2 == 0 ? 1 + random_() % 5 : 100 + last_op_;
    }
    waiting.makes =
        kind == IfrtRequest::kLoadedExecutableExecuteRequest || kind == IfrtRequest::kMakeArrayFromHostBufferRequest;
    client_.Request(waiting.call.user_context);
    waiting_.push_back(waiting);
  }

  void AnswerOne(bool may_fail = true) {
    const auto it = std::next(waiting_.begin(), static_cast<int64_t>(random_() % waiting_.size()));
    const Waiting waiting = *it;
    waiting_.erase(it);
    if (waiting.makes && waiting.call.user_context != 0) {
      for (uint64_t i = random_() % 3; i > 0; --i) {
        numbering_.contexts().Opened(waiting.call.user_context);
        open_.push_back(waiting.call.user_context);
      }
    }
    IfrtResponse response;
    if (may_fail && random_() % 5 == 0) {
      const uint64_t origin = failed_.empty() ? 0 : failed_[random_() % failed_.size()];
      numbering_.StampError(waiting.call, WithOrigin(absl::InternalError("x"), origin), response);
      return client_.Read(response, /*processed=*/false);
    }
    response.mutable_check_value_ready_response();
    numbering_.Stamp(waiting.call, response);
    const bool processed = !waiting.call.of_deletion && waiting.call.kind != IfrtRequest::kDestructArrayRequest &&
                           waiting.call.kind != IfrtRequest::kDeleteArrayRequest;
    client_.Read(response, processed);
    if (processed) ++numbered_;
  }

  void CloseOne() {
    const auto it = std::next(open_.begin(), static_cast<int64_t>(random_() % open_.size()));
    const uint64_t id = *it;
    open_.erase(it);
    const bool failed = random_() % 10 == 0;
    numbering_.contexts().Closed(id, failed);
    if (failed) failed_.push_back(id);
  }

  std::mt19937_64 random_;
  ResponseNumbering numbering_;
  StockClient client_;
  uint64_t last_op_ = 0;
  int64_t numbered_ = 0;
  std::deque<Waiting> waiting_;
  std::deque<uint64_t> open_;
  std::vector<uint64_t> failed_;
};

TEST(NumberingTest, WhateverHappensTheClientNeitherAbortsNorKeepsAnything) {
  int tracebacks = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    RandomServer server(seed);
    for (int step = 0; step < 4000; ++step) {
      server.Step();
      ASSERT_FALSE(HasFatalFailure());
    }
    server.Drain();
    ASSERT_FALSE(HasFatalFailure());
    EXPECT_EQ(server.client().contexts(), 0u);
    EXPECT_EQ(server.client().next(), server.numbered());
    tracebacks += server.client().tracebacks();
  }
  EXPECT_GT(tracebacks, 1000);
}

}  // namespace
}  // namespace causeway
