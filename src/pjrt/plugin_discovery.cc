#include "pjrt/plugin_discovery.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;

struct KnownPlugin {
  std::string name;
  std::vector<std::string> files;  // below site-packages, best first
  std::string install;
};

const std::vector<KnownPlugin>& KnownPlugins() {
  static const auto& plugins = *new std::vector<KnownPlugin>{
      {"cpu", {"lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"}, "pip install --no-deps lammps-jax-pjrt-cpu==0.11.2"},
      {"cuda",
       {"jax_plugins/xla_cuda13/xla_cuda_plugin.so", "jax_plugins/xla_cuda12/xla_cuda_plugin.so"},
       "pip install jax-cuda13-pjrt"},
      {"tpu", {"libtpu/libtpu.so"}, "pip install libtpu"},
  };
  return plugins;
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void AddIfFolder(const fs::path& path, std::vector<std::string>& folders) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) folders.push_back(path.string());
}

// Adds <prefix>/lib/python3*/{site,dist}-packages.
void AddPrefix(const fs::path& prefix, std::vector<std::string>& folders) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(prefix / "lib", error)) {
    if (!absl::StartsWith(entry.path().filename().string(), "python3")) continue;
    AddIfFolder(entry.path() / "site-packages", folders);
    AddIfFolder(entry.path() / "dist-packages", folders);
  }
}

bool IsPath(absl::string_view plugin) { return absl::StrContains(plugin, '/') || absl::EndsWith(plugin, ".so"); }

}  // namespace

std::vector<std::string> PluginDirectories() {
  std::vector<std::string> folders;
  const std::string chosen = Environment("CAUSEWAY_PLUGIN_DIR");
  for (absl::string_view folder : absl::StrSplit(chosen, ':', absl::SkipEmpty())) {
    AddIfFolder(std::string(folder), folders);
  }
  if (const std::string venv = Environment("VIRTUAL_ENV"); !venv.empty()) AddPrefix(venv, folders);

  std::error_code error;
  for (fs::path at = fs::read_symlink("/proc/self/exe", error).parent_path(); !at.empty(); at = at.parent_path()) {
    const std::string name = at.filename().string();
    if (name == "site-packages" || name == "dist-packages") folders.push_back(at.string());
    AddPrefix(at / ".venv", folders);
    if (at == at.root_path()) break;
  }

  if (const std::string home = Environment("HOME"); !home.empty()) AddPrefix(fs::path(home) / ".local", folders);
  AddPrefix("/usr/local", folders);
  AddPrefix("/usr", folders);
  return folders;
}

absl::StatusOr<std::string> FindPlugin(absl::string_view name) {
  return FindPlugin(name, IsPath(name) ? std::vector<std::string>() : PluginDirectories());
}

absl::StatusOr<std::string> FindPlugin(absl::string_view name, absl::Span<const std::string> directories) {
  std::error_code error;
  if (IsPath(name)) {
    std::string path(name);
    if (fs::is_regular_file(path, error)) return path;
    return absl::NotFoundError(absl::StrCat("no PJRT plugin at ", name));
  }
  std::vector<std::string> names;
  for (const KnownPlugin& plugin : KnownPlugins()) {
    names.push_back(plugin.name);
    if (plugin.name != name) continue;
    for (const std::string& directory : directories) {
      for (const std::string& file : plugin.files) {
        for (const fs::path& candidate :
             {fs::path(directory) / file, fs::path(directory) / fs::path(file).filename()}) {
          if (fs::is_regular_file(candidate, error)) return candidate.string();
        }
      }
    }
    return absl::NotFoundError(
        absl::StrCat("no PJRT plugin for ", name, ": looked for ", absl::StrJoin(plugin.files, ", "), " in ",
                     directories.empty() ? "no folder at all" : absl::StrJoin(directories, ", "), ". Install it (",
                     plugin.install, "), or set CAUSEWAY_PLUGIN_DIR to the folder it is in, or give its path"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", name, "' names no PJRT plugin: give one of ", absl::StrJoin(names, ", "), ", or a path"));
}

}  // namespace causeway
