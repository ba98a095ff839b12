# The headers to build against a PJRT plugin, taken from the pinned wheels.
#
#   pjrt_headers   "pjrt_c_api.h" (xla-cpu-pjrt) and "xla/ffi/api/*.h" (jaxlib)
#
# They are copied into a folder of their own: jaxlib's include folder as a whole would put other files under xla/ on the
# include path, where the generated xla/*.pb.h of causeway_wire live.

set(pjrt_include ${CMAKE_BINARY_DIR}/gen/pjrt)

file(GLOB_RECURSE pjrt_c_api ${CAUSEWAY_SITE_PACKAGES}/xla_plugins/*/pjrt_c_api.h
     ${CAUSEWAY_SITE_PACKAGES}/xla_cpu_pjrt/*/pjrt_c_api.h)
if(NOT pjrt_c_api)
  message(FATAL_ERROR "pjrt_c_api.h of the wheel xla-cpu-pjrt is not in ${CAUSEWAY_SITE_PACKAGES}. Run tools/setup.sh.")
endif()
list(GET pjrt_c_api 0 pjrt_c_api)
file(GLOB ffi_headers ${CAUSEWAY_SITE_PACKAGES}/jaxlib/include/xla/ffi/api/*.h)
if(NOT ffi_headers)
  message(FATAL_ERROR "xla/ffi/api/*.h of the wheel jaxlib is not in ${CAUSEWAY_SITE_PACKAGES}. Run tools/setup.sh.")
endif()

file(COPY ${pjrt_c_api} DESTINATION ${pjrt_include})
file(COPY ${ffi_headers} DESTINATION ${pjrt_include}/xla/ffi/api)

add_library(pjrt_headers INTERFACE)
target_include_directories(pjrt_headers SYSTEM INTERFACE ${pjrt_include})
