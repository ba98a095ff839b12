# Compiler flags, compiler cache and linker.
#
# Flags of our own code ride on the target causeway_flags and not on CMAKE_CXX_FLAGS, so that generated code
# (cmake/Wire.cmake), which takes minutes to compile, has the same command line under every preset: with ccache it is
# compiled once for all of them.

set(CAUSEWAY_FLAGS "-O2;-g1;-DNDEBUG" CACHE STRING "Optimisation and debug flags of our own code")
set(CAUSEWAY_SANITIZE "" CACHE STRING "Argument of -fsanitize=, or empty")
set(CAUSEWAY_FUZZ OFF CACHE BOOL "Build fuzz targets with clang's libFuzzer")
set(CAUSEWAY_FUZZ_MUTATIONS 2000 CACHE STRING "Mutations that a fuzz target's ctest test runs")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # With a base directory, paths are relative to the build folder and so equal under every preset; without the folder in
  # the hash, every checkout shares the cache (debug information then names the checkout that compiled first).
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=time_macros ${CCACHE_PROGRAM})
endif()

find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

add_library(causeway_flags INTERFACE)
target_compile_options(
  causeway_flags
  INTERFACE ${CAUSEWAY_FLAGS}
            -Wall
            -Wextra
            -Wno-missing-field-initializers
            -Werror)
if(CAUSEWAY_SANITIZE)
  target_compile_options(causeway_flags INTERFACE -fsanitize=${CAUSEWAY_SANITIZE} -fno-sanitize-recover=all)
  if(CAUSEWAY_SANITIZE STREQUAL "thread")
    # Headers of protobuf lay out map fields in another way where they see this macro, and would so disagree with the
    # generated code and the libraries, which are built without the sanitizer. The instrumentation does not need it.
    target_compile_options(causeway_flags INTERFACE -U__SANITIZE_THREAD__)
  endif()
  add_link_options(-fsanitize=${CAUSEWAY_SANITIZE})
endif()
if(CAUSEWAY_FUZZ)
  # Our own code tells the fuzzer which ways it takes; generated code and libraries do not, which keeps it fast. So does
  # leaving out comparisons (targets make choices of bytes, there is little to be guessed) and dynamic types.
  target_compile_options(causeway_flags INTERFACE -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp
                                                  -fno-sanitize=vptr)
endif()
target_include_directories(causeway_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
