// How far another process' clock is from ours, from questions and answers: it read its clock between when we asked and
// when the answer came.
//
//   ClockOffset clock;
//   clock.Add(/*asked_ns=*/1000, /*said_ns=*/500'000, /*answered_ns=*/1400);
//   clock.offset_ns();   // 498'800: the middle of what is possible
//   clock.error_ns();    // 200
//
// The quickest answer counts: it leaves the least room. Processes of one machine have one clock; where no answer
// contradicts that, it is taken for true, and things that happen in turn keep their order exactly.
//
// Threading: none.
#ifndef CAUSEWAY_CONTROLLER_CLOCK_OFFSET_H_
#define CAUSEWAY_CONTROLLER_CLOCK_OFFSET_H_

#include <cstdint>

namespace causeway {

class ClockOffset {
 public:
  // By the asker's clock, the other's, and the asker's.
  void Add(int64_t asked_ns, int64_t said_ns, int64_t answered_ns);

  // The other clock minus ours.
  int64_t offset_ns() const;

  // By how much that may be wrong at most, with what two quartz clocks drift apart meanwhile; -1: nothing is known.
  int64_t error_ns() const;

 private:
  bool known_ = false;
  bool may_be_same_ = true;  // no answer says otherwise
  int64_t least_ns_ = 0;     // of the quickest answer: what the offset is at least, and at most
  int64_t most_ns_ = 0;
  int64_t best_at_ns_ = 0;  // ours, when that came
  int64_t first_ns_ = 0;
  int64_t last_ns_ = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_CLOCK_OFFSET_H_
