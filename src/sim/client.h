// A simulated client: one session that asks for whatever chance suggests, right and wrong, and checks every answer.
//
// Threading: none; lives in the world.
#ifndef CAUSEWAY_SIM_CLIENT_H_
#define CAUSEWAY_SIM_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/controller_process.h"
#include "sim/door.h"
#include "sim/model.h"
#include "sim/profile.h"
#include "sim/world.h"

namespace causeway::sim {

// What clients share.
struct ClientContext {
  World& world;
  const Profile& profile;
  Model& model;
  Door& door;
  ControllerProcess* controller = nullptr;  // the present one
  int32_t last_launch_id = 0;
  int64_t last_program = 0;
  uint64_t last_origin = 0;
};

class Client {
 public:
  // Sessions are numbered by whoever opens them.
  Client(ClientContext& context, SessionId session);

  SessionId session() const { return session_; }
  bool open() const { return open_; }

  void Open();
  void Close();

  // Asks for one thing.
  void Step();

  // Waits for every array, and fetches every shard.
  void AskForEverything();
  // Gives everything back, but stays.
  void LetGoOfEverything();

 private:
  Random& random() { return context_.world.random(); }
  bool Mistake() { return random().Chance(context_.profile.mistakes); }

  void Put();
  void Compile();
  void Launch();
  void Copy();
  void Reshard();
  void Alias();
  void MakeErrors();
  void Delete();
  void Destruct();
  void Wait();
  void Fetch();
  void FetchOne(ArrayId array, int shard, std::vector<int64_t> byte_strides);
  void Query();
  void DropAProgram();

  // Hands `e` to the core, and holds the answer against `expected`.
  template <typename E>
  void Do(E e, const std::string& what, Expectation expected);

  // Does `call` with the answer, and reports one that is not as expected.
  Answers AnswersFor(std::string what, Expectation expected);

  // Of a request that makes arrays.
  RequestHeader Making() { return {session_, Ticket{0}, ++context_.last_origin}; }

  // ---- what to ask for (client_choice.cc)
  SessionWishes PickWishes();
  ArrayId NewArray() { return MakeArrayId(session_, ++last_array_); }
  // A name for a new array: now and then one that is taken, or another session's.
  ArrayId NewName();
  // Usable arrays for which `fits` holds; mistakes add others. Null: there is none.
  ModelArrayRef PickArray(const std::function<bool(const ModelArray&)>& fits);
  ArrayId PickName(const std::function<bool(const ModelArray&)>& fits, bool& found);
  std::vector<ArrayId> PickNames(int most);
  std::vector<DeviceId> PickDevices(bool one_worker);
  std::vector<int64_t> PickDims(int devices);
  std::shared_ptr<const Sharding> PickSharding(std::vector<DeviceId> devices, const std::vector<int64_t>& dims);
  std::vector<int64_t> PickStrides(const HostShape& shape);
  void Disassemble(AliasShards& e);
  void Assemble(AliasShards& e);
  void Permute(AliasShards& e);
  proto::ProgramInfo PickProgram(int devices, ProgramKind& kind);

  ClientContext& context_;
  const SessionId session_;
  bool open_ = false;
  std::vector<std::vector<DeviceId>> meshes_;  // device lists that it likes
  std::vector<ProgramId> programs_;            // compiled, or being so
  uint64_t last_array_ = 0;
  uint64_t last_program_ = 0;
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_CLIENT_H_
