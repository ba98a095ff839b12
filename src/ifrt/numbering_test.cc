#include "ifrt/numbering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace causeway
