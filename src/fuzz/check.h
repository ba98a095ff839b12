// What a fuzz target holds true of the code it feeds. A failure ends the process, as a crash does, so that the fuzzer
// keeps the input.
//
//   FUZZ_CHECK(frame.size() <= limit);
#ifndef CAUSEWAY_FUZZ_CHECK_H_
#define CAUSEWAY_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define FUZZ_CHECK(condition)                                                                 \
  do {                                                                                        \
    if (!(condition)) {                                                                       \
      std::fprintf(stderr, "%s:%d: FUZZ_CHECK failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                           \
    }                                                                                         \
  } while (false)

#endif  // CAUSEWAY_FUZZ_CHECK_H_
