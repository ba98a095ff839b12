#include "ifrt/user_contexts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<uint64_t> Forgettable(UserContexts& contexts) {
  google::protobuf::RepeatedField<uint64_t> ids;
  contexts.TakeForgettable(ids);
  return {ids.begin(), ids.end()};
}

// A request with `id` whose work fails.
void Fail(UserContexts& contexts, uint64_t id) {
  contexts.Opened(id);
  contexts.Answered(id);
  contexts.Closed(id, /*failed=*/true);
}

TEST(UserContextsTest, AContextThatNothingNeedsIsReturnedWithItsAnswer) {
  UserContexts contexts;
  contexts.Answered(7);
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7));
  EXPECT_THAT(Forgettable(contexts), IsEmpty());
}

TEST(UserContextsTest, AContextIsKeptUntilItsWorkIsDone) {
  UserContexts contexts;
  contexts.Opened(7);
  contexts.Answered(7);
  EXPECT_TRUE(contexts.IsKept(7));
  EXPECT_THAT(Forgettable(contexts), IsEmpty());
  contexts.Closed(7, /*failed=*/false);
  EXPECT_FALSE(contexts.IsKept(7));
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7));
}

TEST(UserContextsTest, WorkThatIsDoneBeforeTheAnswerKeepsNothing) {
  UserContexts contexts;
  contexts.Opened(7);
  contexts.Closed(7, /*failed=*/false);
  contexts.Answered(7);
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7));
}

TEST(UserContextsTest, AContextIsKeptUntilAllOfItsWorkIsDone) {
  UserContexts contexts;
  contexts.Opened(7);
  contexts.Opened(7);
  contexts.Answered(7);
  contexts.Closed(7, /*failed=*/false);
  EXPECT_TRUE(contexts.IsKept(7));
  contexts.Closed(7, /*failed=*/false);
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7));
}

TEST(UserContextsTest, OneReturnIsEnoughToKeepAContextThatManyRequestsCarried) {
  UserContexts contexts;
  for (int i = 0; i < 3; ++i) {
    contexts.Opened(7);
    contexts.Answered(7);
  }
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7, 7)) << "they would pile up in a program that never waits";
  for (int i = 0; i < 3; ++i) contexts.Closed(7, /*failed=*/false);
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7));
}

TEST(UserContextsTest, AFailureKeepsItsContextUntilTooManyHaveFailedSince) {
  UserContexts contexts;
  for (uint64_t id = 1; id <= UserContexts::kMaxFailed; ++id) Fail(contexts, id);
  EXPECT_THAT(Forgettable(contexts), IsEmpty());
  EXPECT_TRUE(contexts.IsKept(1));
  Fail(contexts, 5000);
  EXPECT_FALSE(contexts.IsKept(1));
  EXPECT_TRUE(contexts.IsKept(2));
  EXPECT_TRUE(contexts.IsKept(5000));
  EXPECT_THAT(Forgettable(contexts), ElementsAre(1));
}

TEST(UserContextsTest, AFailureBeforeTheAnswerKeepsItsContext) {
  UserContexts contexts;
  contexts.Opened(7);
  contexts.Closed(7, /*failed=*/true);
  contexts.Answered(7);
  EXPECT_TRUE(contexts.IsKept(7));
  EXPECT_THAT(Forgettable(contexts), IsEmpty());
}

TEST(UserContextsTest, APlaceThatFailsAgainAndAgainCountsOnce) {
  UserContexts contexts;
  for (uint64_t i = 0; i < UserContexts::kMaxFailed; ++i) Fail(contexts, 7);
  Fail(contexts, 8);
  EXPECT_TRUE(contexts.IsKept(7));
  EXPECT_EQ(Forgettable(contexts).size(), UserContexts::kMaxFailed - 1);
}

TEST(UserContextsTest, AnOldFailureThatIsAtWorkAgainIsKeptUntilThatIsDone) {
  UserContexts contexts;
  Fail(contexts, 7);
  contexts.Opened(7);
  for (uint64_t id = 100; id < 100 + UserContexts::kMaxFailed; ++id) Fail(contexts, id);
  EXPECT_TRUE(contexts.IsKept(7));
  EXPECT_THAT(Forgettable(contexts), IsEmpty());
  contexts.Closed(7, /*failed=*/false);
  EXPECT_FALSE(contexts.IsKept(7));
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7));
}

TEST(UserContextsTest, AnEndThatNothingBeganIsIgnored) {
  UserContexts contexts;
  contexts.Closed(7, /*failed=*/true);
  EXPECT_FALSE(contexts.IsKept(7));
  contexts.Answered(7);
  EXPECT_THAT(Forgettable(contexts), ElementsAre(7));
}

}  // namespace
}  // namespace causeway
