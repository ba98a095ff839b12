#include "sim/describe.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/status.h"

namespace causeway::sim {
namespace {

std::string Name(uint64_t id) { return Describe(ArrayId{id}); }

template <typename Ids>
std::string Names(const Ids& ids) {
  return absl::StrCat("[", absl::StrJoin(ids, " ", [](std::string* out, uint64_t id) { out->append(Name(id)); }), "]");
}

std::string Outcome(const proto::Status& status) { return status.code() == 0 ? "ok" : FromProto(status).ToString(); }

std::string Shards(const proto::Put& put) {
  return absl::StrCat(Name(put.array()), " shards [",
                      absl::StrJoin(put.shards(), " ",
                                    [](std::string* out, const proto::Shard& shard) {
                                      absl::StrAppend(out, shard.index(), "@", shard.device());
                                    }),
                      "]");
}

std::string Pieces(const proto::Copy& copy) {
  std::string text = absl::StrCat(Name(copy.array()), ", ", copy.made_size(), " made here");
  for (const proto::Copy::Part& part : copy.parts()) {
    absl::StrAppend(&text, ", ", Name(part.source_array()), ":", part.source_shard(), "@", part.source_worker(), "->",
                    part.target_shard(), "@", part.target_worker());
    if (part.stream() != 0) absl::StrAppend(&text, " as stream ", part.stream());
  }
  return text;
}

}  // namespace

std::string Describe(ArrayId array) { return absl::StrCat(Raw(SessionOf(array)), "/", Raw(array) & kMaxPerSession); }

std::string Describe(const proto::ToWorker& message) {
  switch (message.message_case()) {
    case proto::ToWorker::kWelcome:
      return absl::StrCat("welcome as worker ", message.welcome().worker(), " life ", message.welcome().incarnation());
    case proto::ToWorker::kGoodbye:
      return absl::StrCat("goodbye ", Outcome(message.goodbye().status()));
    case proto::ToWorker::kPing:
      return absl::StrCat("ping ", message.ping().number());
    case proto::ToWorker::kCompile:
      return absl::StrCat("compile ", Name(message.compile().program()), " for devices [",
                          absl::StrJoin(message.compile().devices(), " "), "]");
    case proto::ToWorker::kDropPrograms:
      return absl::StrCat("drop programs ", Names(message.drop_programs().programs()));
    case proto::ToWorker::kDropSession:
      return absl::StrCat("drop session ", message.drop_session().session());
    case proto::ToWorker::kLaunch:
      return absl::StrCat("launch ", message.launch().number(), ": program ", Name(message.launch().program()), " ",
                          Names(message.launch().arguments()), " -> ", Names(message.launch().outputs()));
    case proto::ToWorker::kPut:
      return absl::StrCat("put ", Shards(message.put()));
    case proto::ToWorker::kReceiveHost:
      return absl::StrCat("receive ", Shards(message.receive_host().put()), " as stream ",
                          message.receive_host().stream(), " of ", message.receive_host().total_bytes(), " bytes");
    case proto::ToWorker::kFetch:
      return absl::StrCat("fetch ", message.fetch().fetch(), ": ", Name(message.fetch().array()), ":",
                          message.fetch().shard(), " as stream ", message.fetch().stream());
    case proto::ToWorker::kCopy:
      return absl::StrCat("copy ", Pieces(message.copy()));
    case proto::ToWorker::kAlias: {
      std::string text = "alias";
      for (const proto::Alias::Entry& entry : message.alias().entries()) {
        absl::StrAppend(&text, " ", Name(entry.array()), ":", entry.shard(), "=", Name(entry.source_array()), ":",
                        entry.source_shard());
      }
      return text;
    }
    case proto::ToWorker::kDelete:
      return absl::StrCat("delete ", Names(message.delete_().arrays()));
    case proto::ToWorker::kFail:
      return absl::StrCat("fail ", Name(message.fail().array()), ": ", Outcome(message.fail().status()));
    case proto::ToWorker::kQuery:
      return absl::StrCat("query ", message.query().query());
    case proto::ToWorker::kPeers:
      return absl::StrCat("peers [",
                          absl::StrJoin(message.peers().peers(), " ",
                                        [](std::string* out, const proto::Peers::Peer& peer) {
                                          absl::StrAppend(out, peer.worker(), "@", peer.data_address(), "#",
                                                          peer.incarnation());
                                        }),
                          "]");
    case proto::ToWorker::kHostData:
      return absl::StrCat("host data for stream ", message.host_data().stream(), ": ",
                          Outcome(message.host_data().status()), ", ", message.host_data().data().size(), " bytes");
    default:
      return message.ShortDebugString();
  }
}

std::string Describe(const proto::ToController& message) {
  switch (message.message_case()) {
    case proto::ToController::kHello:
      return "hello";
    case proto::ToController::kPong:
      return absl::StrCat("pong ", message.pong().number());
    case proto::ToController::kCompiled:
      return absl::StrCat("compiled ", Name(message.compiled().program()), ": ", Outcome(message.compiled().status()));
    case proto::ToController::kLaunchesDone: {
      std::string text = "done";
      for (const proto::LaunchDone& done : message.launches_done().done()) {
        absl::StrAppend(&text, " launch ", done.number(), ": ", Outcome(done.status()));
      }
      return text;
    }
    case proto::ToController::kArrayDone:
      return absl::StrCat("made ", Name(message.array_done().array()), ": ", Outcome(message.array_done().status()));
    case proto::ToController::kFetchDone:
      return absl::StrCat("fetched ", message.fetch_done().fetch(), ": ", Outcome(message.fetch_done().status()), ", ",
                          message.fetch_done().total_bytes(), " bytes");
    case proto::ToController::kQueryDone:
      return absl::StrCat("answer ", message.query_done().query(), ": ", Outcome(message.query_done().status()));
    default:
      return message.ShortDebugString();
  }
}

}  // namespace causeway::sim
