#include "timed/launch_times.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace causeway {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr absl::Duration kMs = absl::Milliseconds(1);

absl::StatusOr<double> NoFlops() { return absl::InternalError("nobody should ask"); }

absl::Duration TimeOf(absl::string_view spec, absl::string_view program) {
  const absl::StatusOr<LaunchTimes> times = LaunchTimes::Parse(spec);
  EXPECT_TRUE(times.ok()) << times.status();
  const absl::StatusOr<absl::Duration> time = times->Of(program, NoFlops);
  EXPECT_TRUE(time.ok()) << time.status();
  return *time;
}

std::string ErrorOf(absl::string_view spec) {
  const absl::StatusOr<LaunchTimes> times = LaunchTimes::Parse(spec);
  EXPECT_EQ(times.status().code(), absl::StatusCode::kInvalidArgument) << spec;
  return std::string(times.status().message());
}

TEST(LaunchTimes, EveryUnitIsRead) {
  EXPECT_EQ(TimeOf("f=300us", "f"), absl::Microseconds(300));
  EXPECT_EQ(TimeOf("f=5ms", "f"), 5 * kMs);
  EXPECT_EQ(TimeOf("f=1s", "f"), absl::Seconds(1));
  EXPECT_EQ(TimeOf("f=1.5ms", "f"), absl::Microseconds(1500));
  EXPECT_EQ(TimeOf("f=0", "f"), absl::ZeroDuration());
  EXPECT_EQ(TimeOf("f=1h", "f"), LaunchTimes::kLongest);
}

TEST(LaunchTimes, ANameIsMeantWithOrWithoutJaxsPrefix) {
  EXPECT_EQ(TimeOf("f=5ms", "jit_f"), 5 * kMs);
  EXPECT_EQ(TimeOf("jit_f=5ms", "jit_f"), 5 * kMs);
  EXPECT_EQ(TimeOf("f=5ms", "jit_jit_f"), absl::ZeroDuration());
  EXPECT_EQ(TimeOf("jit_f=5ms", "f"), absl::ZeroDuration());
}

TEST(LaunchTimes, AStarStandsForAnyCharacters) {
  for (absl::string_view yes : {"stage", "stage_1", "jit_stage", "jit_stage_forward"}) {
    EXPECT_EQ(TimeOf("stage*=5ms", yes), 5 * kMs) << yes;
  }
  for (absl::string_view no : {"stag", "a_stage", "jit_a_stage", ""}) {
    EXPECT_EQ(TimeOf("stage*=5ms", no), absl::ZeroDuration()) << no;
  }
  EXPECT_EQ(TimeOf("*_b*d=5ms", "a_bcbcd"), 5 * kMs);
  EXPECT_EQ(TimeOf("*_b*d=5ms", "a_bcbc"), absl::ZeroDuration());
  EXPECT_EQ(TimeOf("**=5ms", ""), 5 * kMs);
  EXPECT_EQ(TimeOf("f.*=5ms", "fx"), absl::ZeroDuration()) << "a dot is a dot";
}

TEST(LaunchTimes, TheFirstNameThatMatchesCounts) {
  EXPECT_EQ(TimeOf("stage_1=1ms, stage*=2ms ,*=3ms", "jit_stage_1"), 1 * kMs);
  EXPECT_EQ(TimeOf("stage_1=1ms, stage*=2ms ,*=3ms", "jit_stage_2"), 2 * kMs);
  EXPECT_EQ(TimeOf("stage_1=1ms, stage*=2ms ,*=3ms", "jit_other"), 3 * kMs);
  EXPECT_EQ(TimeOf("stage*=2ms,stage_1=1ms", "jit_stage_1"), 2 * kMs);
}

TEST(LaunchTimes, WhatNobodyGivesATimeTakesNone) {
  EXPECT_EQ(TimeOf("f=5ms", "g"), absl::ZeroDuration());
  EXPECT_EQ(*LaunchTimes().Of("g", NoFlops), absl::ZeroDuration());
}

TEST(LaunchTimes, AProgramSaysItselfHowLongItTakes) {
  const LaunchTimes none;
  EXPECT_EQ(*none.Of("jit_stage_for_5ms", NoFlops), 5 * kMs);
  EXPECT_EQ(*none.Of("stage_for_300us", NoFlops), absl::Microseconds(300));
  EXPECT_EQ(*none.Of("wait_for_5ms_for_2s", NoFlops), absl::Seconds(2));
  for (absl::string_view no : {"stage_for_5", "stage_for_ms", "stage_for_", "_for_5m", "for_5ms", "a_for_5msx",
                               "a_for_-5ms", "a_for_1.5ms", "a_for_99999999999999999999s"}) {
    EXPECT_EQ(*none.Of(no, NoFlops), absl::ZeroDuration()) << no;
  }
}

TEST(LaunchTimes, ANameInTheFlagWinsOverTheProgramsOwnAndADefaultDoesNot) {
  EXPECT_EQ(TimeOf("*=1ms", "jit_stage_for_5ms"), 5 * kMs);
  EXPECT_EQ(TimeOf("stage*=2ms,*=1ms", "jit_stage_for_5ms"), 2 * kMs);
  EXPECT_EQ(TimeOf("**=1ms", "jit_stage_for_5ms"), 1 * kMs) << "only the plain * is a default";
}

TEST(LaunchTimes, CostsBecomeTimeAtTheSpeedThatIsGiven) {
  const absl::StatusOr<LaunchTimes> times = LaunchTimes::Parse("f=1ms,*=cost:1e9");
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(*times->Of("jit_g", [] { return 2e6; }), 2 * kMs);
  EXPECT_EQ(*times->Of("jit_f", NoFlops), 1 * kMs) << "not asked for";
  EXPECT_EQ(*times->Of("jit_g", [] { return -1.0; }), absl::ZeroDuration()) << "unknown";
  EXPECT_EQ(*times->Of("jit_g", [] { return std::numeric_limits<double>::quiet_NaN(); }), absl::ZeroDuration());
  EXPECT_EQ(times->Of("jit_g", [] { return absl::UnimplementedError("no analysis"); }).status(),
            absl::UnimplementedError("no analysis"));
}

TEST(LaunchTimes, NoLaunchTakesForEver) {
  const absl::StatusOr<LaunchTimes> times = LaunchTimes::Parse("*=cost:1");
  ASSERT_TRUE(times.ok()) << times.status();
  for (double flops : {3601.0, 1e300, std::numeric_limits<double>::infinity()}) {
    const absl::Status error = times->Of("jit_g", [=] { return flops; }).status();
    EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(error.message()), AllOf(HasSubstr("jit_g"), HasSubstr("1h"), HasSubstr("--launch-time")));
  }
  EXPECT_FALSE(times->Of("f_for_3601s", NoFlops).ok());
  EXPECT_FALSE(times->Of("f_for_9223372036854775807s", NoFlops).ok());
}

TEST(LaunchTimes, AnErrorNamesThePartAndTheCure) {
  EXPECT_THAT(ErrorOf("a=1ms,5ms"), AllOf(HasSubstr("'5ms'"), HasSubstr("NAME=TIME")));
  EXPECT_THAT(ErrorOf(""), HasSubstr("NAME=TIME"));
  EXPECT_THAT(ErrorOf("a=1ms,"), HasSubstr("NAME=TIME"));
  EXPECT_THAT(ErrorOf("=1ms"), HasSubstr("NAME=TIME"));
  EXPECT_THAT(ErrorOf("a="), HasSubstr("NAME=TIME"));
  for (absl::string_view unreadable : {"a=5", "a=ms", "a=5 ms", "a=5mss", "a=b=5ms", "a=fast", "a=1e3ms"}) {
    EXPECT_THAT(ErrorOf(unreadable), AllOf(HasSubstr(absl::StrCat("'", unreadable, "'")), HasSubstr("300us")));
  }
  for (absl::string_view out_of_range : {"a=-1ms", "a=3601s", "a=inf", "a=-inf"}) {
    EXPECT_THAT(ErrorOf(out_of_range), AllOf(HasSubstr(out_of_range), HasSubstr("1h")));
  }
  for (absl::string_view speed : {"a=cost:", "a=cost:0", "a=cost:-1", "a=cost:inf", "a=cost:nan", "a=cost:x"}) {
    EXPECT_THAT(ErrorOf(speed), AllOf(HasSubstr(speed), HasSubstr("cost:1e12")));
  }
  EXPECT_THAT(ErrorOf("*=5ms,a=1ms"), AllOf(HasSubstr("'a=1ms'"), HasSubstr("before")));
}

TEST(LaunchTimes, WhatIsTooLongIsRefusedAndNotRepeated) {
  const std::string error = ErrorOf(absl::StrCat(std::string(100'000, 'x'), "=1ms"));
  EXPECT_THAT(error, HasSubstr("256 bytes"));
  EXPECT_LT(error.size(), 400);
  EXPECT_THAT(ErrorOf(absl::StrCat("a\n\xff", "b=x")), testing::Not(HasSubstr("\n")));

  std::vector<std::string> parts(LaunchTimes::kMaxNames, "a=1ms");
  EXPECT_TRUE(LaunchTimes::Parse(absl::StrJoin(parts, ",")).ok());
  parts.emplace_back("b=1ms");
  EXPECT_THAT(ErrorOf(absl::StrJoin(parts, ",")), HasSubstr("1000 names"));
}

}  // namespace
}  // namespace causeway
