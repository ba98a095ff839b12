# The wire format: C++ generated from the descriptors embedded in the pinned jaxlib wheel (DESIGN.md, decision 2).
#
#   causeway_wire   static library; include as "xla/service/hlo.pb.h"
#
# Descriptors are extracted at configure time, so that the list of files is known, and again only when the wheel or the
# extractor changes.

set(wire_dir ${CMAKE_BINARY_DIR}/gen/wire)
set(wire_descriptors ${CMAKE_BINARY_DIR}/gen/wire.desc)
set(wire_list ${CMAKE_BINARY_DIR}/gen/wire.list)
set(wire_extractor ${CMAKE_SOURCE_DIR}/tools/extract_descriptors.py)

file(GLOB wire_records ${CAUSEWAY_SITE_PACKAGES}/jaxlib-*.dist-info/RECORD)
list(LENGTH wire_records wire_record_count)
if(NOT wire_record_count EQUAL 1)
  message(FATAL_ERROR "Expected one jaxlib wheel in ${CAUSEWAY_SITE_PACKAGES}, found ${wire_record_count}. "
                      "Run tools/setup.sh.")
endif()
string(REGEX REPLACE ".*/jaxlib-([^/]*)\\.dist-info/RECORD$" "\\1" CAUSEWAY_JAXLIB_VERSION "${wire_records}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${wire_extractor} ${CMAKE_SOURCE_DIR}/tools/versions.env)

file(SHA256 ${wire_records} wire_wheel_hash)
file(SHA256 ${wire_extractor} wire_extractor_hash)
set(wire_key "${wire_wheel_hash} ${wire_extractor_hash}")
if(NOT "${wire_key}" STREQUAL "${CAUSEWAY_WIRE_KEY}" OR NOT EXISTS ${wire_descriptors} OR NOT EXISTS ${wire_list})
  message(STATUS "Extracting the wire format's descriptors from the jaxlib wheel")
  execute_process(COMMAND ${CAUSEWAY_PYTHON} ${wire_extractor} --out ${wire_descriptors} --list ${wire_list}
                  RESULT_VARIABLE wire_result)
  if(NOT wire_result EQUAL 0)
    message(FATAL_ERROR "The descriptors could not be extracted; the reason stands above.")
  endif()
  set(CAUSEWAY_WIRE_KEY "${wire_key}" CACHE INTERNAL "What gen/wire.desc was made from")
endif()

file(STRINGS ${wire_list} wire_protos)
set(wire_sources ${wire_protos})
list(TRANSFORM wire_sources REPLACE "\\.proto$" ".pb.cc")
list(TRANSFORM wire_sources PREPEND ${wire_dir}/)
set(wire_headers ${wire_sources})
list(TRANSFORM wire_headers REPLACE "\\.pb\\.cc$" ".pb.h")

set(wire_service xla/python/ifrt_proxy/common/grpc_ifrt_service)
set(wire_grpc ${wire_dir}/${wire_service}.grpc.pb.cc ${wire_dir}/${wire_service}.grpc.pb.h)

file(MAKE_DIRECTORY ${wire_dir})
add_custom_command(
  OUTPUT ${wire_sources} ${wire_headers}
  COMMAND protobuf::protoc --descriptor_set_in=${wire_descriptors} --cpp_out=${wire_dir} ${wire_protos}
  DEPENDS ${wire_descriptors} protobuf::protoc
  COMMENT "Generating the wire format's C++"
  VERBATIM)
add_custom_command(
  OUTPUT ${wire_grpc}
  COMMAND protobuf::protoc --descriptor_set_in=${wire_descriptors} --grpc_out=${wire_dir}
          --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN} ${wire_service}.proto
  DEPENDS ${wire_descriptors} protobuf::protoc ${GRPC_CPP_PLUGIN}
  COMMENT "Generating the IFRT proxy's gRPC service"
  VERBATIM)

add_library(causeway_wire STATIC ${wire_sources} ${wire_headers} ${wire_grpc})
target_compile_options(causeway_wire PRIVATE -O1 -g0 -w)
target_include_directories(causeway_wire SYSTEM PUBLIC ${wire_dir})
target_link_libraries(causeway_wire PUBLIC protobuf::libprotobuf PkgConfig::GRPCPP)
