#include "timed/launch_times.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/utf8.h"

namespace causeway {
namespace {

constexpr absl::string_view kAny = "*";
constexpr absl::string_view kCost = "cost:";
constexpr absl::string_view kJit = "jit_";
constexpr absl::string_view kFor = "_for_";

// So much of what is wrong is shown.
constexpr size_t kShown = 80;

std::string Quoted(absl::string_view text) {
  return absl::StrCat("'", PrintableUtf8(text, kShown), text.size() > kShown ? "...'" : "'");
}

// Whether `pattern`, in which * stands for any characters, is all of `text`.
bool Matches(absl::string_view pattern, absl::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = absl::string_view::npos;  // the last * seen, and what it stands for ends at `resume`
  size_t resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != absl::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == absl::string_view::npos;
}

bool Names(absl::string_view pattern, absl::string_view program) {
  return Matches(pattern, program) ||
         (absl::StartsWith(program, kJit) && Matches(pattern, absl::StripPrefix(program, kJit)));
}

// What stands behind the last "_for_" of a name, where it is a time. Nothing else than digits and one unit is: other
// names must not happen to say one.
std::optional<absl::Duration> SaidBy(absl::string_view program) {
  const size_t at = program.rfind(kFor);
  if (at == absl::string_view::npos) return std::nullopt;
  const absl::string_view text = program.substr(at + kFor.size());
  const absl::string_view unit = text.substr(std::min(text.find_first_not_of("0123456789"), text.size()));
  int64_t count = 0;
  if (!absl::SimpleAtoi(text.substr(0, text.size() - unit.size()), &count)) return std::nullopt;
  if (unit == "us") return count * absl::Microseconds(1);
  if (unit == "ms") return count * absl::Milliseconds(1);
  if (unit == "s") return count * absl::Seconds(1);
  return std::nullopt;
}

std::string Longest() { return absl::FormatDuration(LaunchTimes::kLongest); }

}  // namespace

absl::StatusOr<LaunchTimes::Rule> LaunchTimes::ParseRule(absl::string_view part) {
  const std::pair<absl::string_view, absl::string_view> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
  const absl::string_view name = absl::StripAsciiWhitespace(sides.first);
  const absl::string_view text = absl::StripAsciiWhitespace(sides.second);
  const auto refuse = [part](absl::string_view cure) {
    return absl::InvalidArgumentError(absl::StrCat("launch times: ", Quoted(part), " ", cure));
  };
  if (name.empty() || text.empty()) return refuse("is not NAME=TIME: write such as stage*=20ms or *=5ms");
  if (name.size() > kMaxNameLength) {
    return refuse(absl::StrCat("has a name of more than ", kMaxNameLength, " bytes: put * for a part of it"));
  }
  Rule rule{std::string(name), absl::ZeroDuration(), 0};
  if (absl::string_view speed = text; absl::ConsumePrefix(&speed, kCost)) {
    if (!absl::SimpleAtod(speed, &rule.flops_per_s) || !std::isfinite(rule.flops_per_s) || rule.flops_per_s <= 0) {
      return refuse("has no speed behind cost: - write flops per second, such as cost:1e12");
    }
    return rule;
  }
  if (!absl::ParseDuration(text, &rule.time)) {
    return refuse("has no time that can be read: write such as 300us, 5ms, 1s or cost:1e12");
  }
  if (rule.time < absl::ZeroDuration() || rule.time > kLongest) {
    return refuse(absl::StrCat("has a time that no launch may take: write one from 0 to ", Longest()));
  }
  return rule;
}

absl::StatusOr<LaunchTimes> LaunchTimes::Parse(absl::string_view spec) {
  LaunchTimes times;
  for (absl::string_view part : absl::StrSplit(spec, ',')) {
    if (times.rules_.size() == kMaxNames) {
      return absl::InvalidArgumentError(
          absl::StrCat("launch times: more than ", kMaxNames, " names: put several together with *"));
    }
    ASSIGN_OR_RETURN(Rule rule, ParseRule(part));
    if (!times.rules_.empty() && times.rules_.back().name == kAny) {
      return absl::InvalidArgumentError(
          absl::StrCat("launch times: ", Quoted(part), " is never reached behind *=: write it before that"));
    }
    times.rules_.push_back(std::move(rule));
  }
  return times;
}

absl::StatusOr<absl::Duration> LaunchTimes::Of(absl::string_view program,
                                               const std::function<absl::StatusOr<double>()>& flops) const {
  const Rule* rule = nullptr;
  for (size_t i = 0; i < rules_.size() && rule == nullptr; ++i) {
    if (Names(rules_[i].name, program)) rule = &rules_[i];
  }
  absl::Duration time = absl::ZeroDuration();
  if (const std::optional<absl::Duration> said = SaidBy(program);
      said.has_value() && (rule == nullptr || rule->name == kAny)) {
    time = *said;
  } else if (rule != nullptr && rule->flops_per_s > 0) {
    ASSIGN_OR_RETURN(const double count, flops());
    // Plugins say -1 for what they do not know.
    if (count > 0) time = absl::Seconds(count / rule->flops_per_s);
  } else if (rule != nullptr) {
    time = rule->time;
  }
  if (time > kLongest) {
    return absl::InvalidArgumentError(absl::StrCat("a launch of ", Quoted(program), " would take ",
                                                   absl::FormatDuration(time), ", and may take ", Longest(),
                                                   ": give it a shorter time with --launch-time"));
  }
  return time;
}

}  // namespace causeway
