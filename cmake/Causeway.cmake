# The ways in which our own code is built, and the rule by which a folder of src/ becomes targets.

# causeway_library(NAME SRCS a.cc … DEPS target …)
#
# Without sources the library is headers only.
function(causeway_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SRCS;DEPS")
  if(arg_SRCS)
    add_library(${name} STATIC ${arg_SRCS})
    target_link_libraries(${name} PUBLIC ${arg_DEPS} PRIVATE causeway_flags)
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${arg_DEPS})
    target_include_directories(${name} INTERFACE ${CMAKE_SOURCE_DIR}/src)
  endif()
endfunction()

# causeway_test(NAME SRCS a_test.cc … DEPS target … [TIMEOUT seconds])
#
# One GoogleTest binary, build/<preset>/tests/NAME, and one ctest test of that name.
function(causeway_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SRCS;DEPS")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${arg_DEPS} causeway_flags GTest::gmock GTest::gtest GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(
    ${name}
    PROPERTIES
      TIMEOUT ${arg_TIMEOUT}
      ENVIRONMENT
      "CAUSEWAY_ROOT=${CMAKE_SOURCE_DIR};CAUSEWAY_SITE_PACKAGES=${CAUSEWAY_SITE_PACKAGES};${CAUSEWAY_SANITIZER_ENV}")
endfunction()

# Read by tests, tools/sanitizers/README.md says what is suppressed and why.
set(CAUSEWAY_SANITIZER_ENV
    "ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1"
    "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tools/sanitizers/lsan.supp:print_suppressions=0"
    "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tools/sanitizers/tsan.supp:halt_on_error=1:second_deadlock_stack=1"
    "UBSAN_OPTIONS=print_stacktrace=1")

# causeway_benchmark(NAME SRCS a_benchmark.cc … DEPS target …)
#
# One Google Benchmark binary, build/<preset>/benchmarks/NAME; not part of ctest.
function(causeway_benchmark name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SRCS;DEPS")
  add_executable(${name} ${arg_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/benchmarks)
  target_link_libraries(${name} PRIVATE ${arg_DEPS} causeway_flags benchmark::benchmark benchmark::benchmark_main)
endfunction()

# causeway_fuzz(NAME SRCS a_fuzz.cc … DEPS target …)
#
# A fuzz target, build/<preset>/fuzz/NAME, over the corpus tests/corpus/NAME (src/fuzz/README.md). Under the preset
# `fuzz` it is libFuzzer's; otherwise it has src/fuzz/replay_main.cc, and one ctest test of that name replays the corpus
# and CAUSEWAY_FUZZ_MUTATIONS mutations of it.
function(causeway_fuzz name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SRCS;DEPS")
  add_executable(${name} ${arg_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  target_link_libraries(${name} PRIVATE ${arg_DEPS} causeway_flags causeway_fuzz_support)
  add_dependencies(fuzz_targets ${name})
  if(CAUSEWAY_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    return()
  endif()
  target_link_libraries(${name} PRIVATE causeway_fuzz_replay)
  set(corpus ${CMAKE_SOURCE_DIR}/tests/corpus/${name})
  add_test(NAME ${name} COMMAND ${name} --mutations=${CAUSEWAY_FUZZ_MUTATIONS} ${corpus}
           WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  set_tests_properties(${name} PROPERTIES TIMEOUT 120 ENVIRONMENT "${CAUSEWAY_SANITIZER_ENV}")
endfunction()

# causeway_folder(FOLDER DEPS target … [TEST_DEPS target …] [FUZZ_DEPS target …] [EXCLUDE file.cc …] [TEST_TIMEOUT
# seconds])
#
# Turns the calling folder src/FOLDER into targets by the names of its files:
#
#   *.cc             library causeway_FOLDER (headers only where there is none)
#   foo_test.cc      test FOLDER_foo_test
#   foo_benchmark.cc benchmark FOLDER_foo_benchmark
#   foo_fuzz.cc      fuzz target FOLDER_foo_fuzz
#
# Folders below count as part of it. New files are picked up by the next build. TEST_DEPS go to tests and benchmarks
# only, FUZZ_DEPS to fuzz targets only.
function(causeway_folder folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TEST_TIMEOUT" "DEPS;TEST_DEPS;FUZZ_DEPS;EXCLUDE")
  set(here ${CMAKE_CURRENT_SOURCE_DIR})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${here}/*.cc)
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${here}/*_test.cc)
  file(GLOB_RECURSE benchmarks CONFIGURE_DEPENDS ${here}/*_benchmark.cc)
  file(GLOB_RECURSE fuzzers CONFIGURE_DEPENDS ${here}/*_fuzz.cc)
  list(TRANSFORM arg_EXCLUDE PREPEND ${here}/)
  list(REMOVE_ITEM sources ${tests} ${benchmarks} ${fuzzers} ${arg_EXCLUDE})

  causeway_library(causeway_${folder} SRCS ${sources} DEPS ${arg_DEPS})
  foreach(source ${tests})
    cmake_path(GET source STEM stem)
    causeway_test(
      ${folder}_${stem}
      SRCS ${source}
      DEPS causeway_${folder} ${arg_TEST_DEPS}
      TIMEOUT ${arg_TEST_TIMEOUT})
  endforeach()
  foreach(source ${benchmarks})
    cmake_path(GET source STEM stem)
    causeway_benchmark(${folder}_${stem} SRCS ${source} DEPS causeway_${folder} ${arg_TEST_DEPS})
  endforeach()
  foreach(source ${fuzzers})
    cmake_path(GET source STEM stem)
    causeway_fuzz(${folder}_${stem} SRCS ${source} DEPS causeway_${folder} ${arg_FUZZ_DEPS})
  endforeach()
endfunction()
