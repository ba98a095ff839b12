// Which kind of event the controller core was told, for people who look at where its time goes.
//
//   const int kind = EventKindOf(event);      // "LaunchProgram", "WorkerFrame launches_done", ...
//   EventKindName(kind);
//
// Threading: pure functions.
#ifndef CAUSEWAY_CONTROLLER_EVENT_KIND_H_
#define CAUSEWAY_CONTROLLER_EVENT_KIND_H_

#include <string>

#include "controller/events.h"

namespace causeway {

int EventKindOf(const Event& event);
std::string EventKindName(int kind);

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_EVENT_KIND_H_
