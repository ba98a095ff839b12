// Frames of the control link in words, for traces.
#ifndef CAUSEWAY_SIM_DESCRIBE_H_
#define CAUSEWAY_SIM_DESCRIBE_H_

#include <string>

#include "base/ids.h"
#include "proto/control.pb.h"

namespace causeway::sim {

// "2/17": array (or program) 17 of session 2.
std::string Describe(ArrayId array);

std::string Describe(const proto::ToWorker& message);
std::string Describe(const proto::ToController& message);

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_DESCRIBE_H_
