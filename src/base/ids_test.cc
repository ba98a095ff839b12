#include "base/ids.h"

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(Ids, AnArrayIdTellsItsSession) {
  constexpr SessionId kLast{kMaxSession};
  EXPECT_EQ(SessionOf(MakeArrayId(kLast, kMaxPerSession)), kLast);
  EXPECT_EQ(SessionOf(MakeArrayId(SessionId{1}, 0)), SessionId{1});
  EXPECT_NE(MakeArrayId(SessionId{1}, 7), MakeArrayId(SessionId{2}, 7));
  EXPECT_EQ(SessionOf(MakeProgramId(kLast, 3)), kLast);
}

}  // namespace
}  // namespace causeway
