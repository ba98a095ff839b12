// What `causeway top` shows: who uses how much of a cluster, from its status at two moments.
//
//   std::fputs(TopPage(before, now).c_str(), stdout);
//
// Rates and shares are of the time between the two; `-` where there is nothing to say. With `columns` and `rows` above
// 0 the page is cut so that it fits in.
//
// Threading: pure functions.
#ifndef CAUSEWAY_CLI_TOP_PAGE_H_
#define CAUSEWAY_CLI_TOP_PAGE_H_

#include <string>

#include "proto/control.pb.h"

namespace causeway {

// For people. Ends with a newline; no other characters that move a cursor.
std::string TopPage(const proto::ClusterStatus& before, const proto::ClusterStatus& now, int columns = 0, int rows = 0);

// The same as one JSON object, for programs: null where there is nothing to say.
std::string TopJson(const proto::ClusterStatus& before, const proto::ClusterStatus& now);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_TOP_PAGE_H_
