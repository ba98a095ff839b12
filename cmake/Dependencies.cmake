# What comes from Debian. docs/DEPENDENCIES.md says why each of them is here; tools/versions.env pins them.

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(GRPCPP REQUIRED IMPORTED_TARGET grpc++)
pkg_check_modules(LAPACKE REQUIRED IMPORTED_TARGET lapacke openblas)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

# Asio is headers only and brings no CMake package.
find_path(ASIO_INCLUDE_DIR asio.hpp REQUIRED)
add_library(causeway_asio INTERFACE)
target_include_directories(causeway_asio SYSTEM INTERFACE ${ASIO_INCLUDE_DIR})
# Without the third, the order of includes decides which allocator Asio uses, file by file; the last is for tsan, which
# cannot see fences.
target_compile_definitions(causeway_asio INTERFACE ASIO_STANDALONE ASIO_NO_DEPRECATED ASIO_DISABLE_STD_ALIGNED_ALLOC
                                                   ASIO_DISABLE_FENCED_BLOCK)
target_link_libraries(causeway_asio INTERFACE Threads::Threads)

# The interpreter of the project's virtual environment, which tools/setup.sh makes; the pinned wheels live there.
set(CAUSEWAY_PYTHON "${CMAKE_SOURCE_DIR}/.venv/bin/python" CACHE FILEPATH "Python with the pinned wheels")
if(NOT EXISTS "${CAUSEWAY_PYTHON}")
  message(FATAL_ERROR "No Python environment at ${CAUSEWAY_PYTHON}. Run tools/setup.sh first.")
endif()
execute_process(
  COMMAND "${CAUSEWAY_PYTHON}" -c "import sysconfig; print(sysconfig.get_paths()['platlib'], end='')"
  OUTPUT_VARIABLE CAUSEWAY_SITE_PACKAGES COMMAND_ERROR_IS_FATAL ANY)

# The clients that are served, in words and numbers for people: "0.8.3 0.9.2 …".
file(READ ${CMAKE_SOURCE_DIR}/tools/versions.env versions_env)
if(NOT versions_env MATCHES "CLIENT_VERSIONS=\"([^\"]*)\"")
  message(FATAL_ERROR "tools/versions.env has no CLIENT_VERSIONS.")
endif()
string(STRIP "${CMAKE_MATCH_1}" CAUSEWAY_CLIENT_VERSIONS)
string(REGEX REPLACE "[ \n]+" " " CAUSEWAY_CLIENT_VERSIONS "${CAUSEWAY_CLIENT_VERSIONS}")
