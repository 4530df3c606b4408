foreach(name IN ITEMS tap_disk tap_hold tap_crash tap_full tap_fault tap_order tap_copy)
  tide_test(test_${name} SOURCES test_${name}.c tap_rig.c
    DEPS common_hrl common_core PkgConfig::libnbd LABELS system TIMEOUT 60)
  add_dependencies(test_${name} tidemark-tap)
endforeach()
tide_test(test_tap_resync SOURCES test_tap_resync.c tap_far.c tap_rig.c
  DEPS common_hrl common_core PkgConfig::libnbd PkgConfig::libisal LABELS system TIMEOUT 120)
add_dependencies(test_tap_resync tidemark-tap)
tide_test(test_tap_gap SOURCES test_tap_gap.c tap_far.c tap_rig.c
  DEPS common_hrl common_core PkgConfig::libnbd PkgConfig::libisal LABELS system TIMEOUT 120)
add_dependencies(test_tap_gap tidemark-tap)
add_library(tap_faults MODULE tap_faults.c)
set_target_properties(tap_faults PROPERTIES PREFIX ""
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_dependencies(test_tap_fault tap_faults)
add_dependencies(test_tap_gap tap_faults)
add_dependencies(test_tap_copy tap_faults)
add_dependencies(test_tap_order tap_faults)
# What is tested lies within one real hold, 100 ms at most: nothing else runs beside it.
set_tests_properties(test_tap_hold test_tap_full test_tap_fault test_tap_order PROPERTIES
  RUN_SERIAL ON)
# What is promised of flush, FUA and trim, over power cuts; disks of 64 TiB.
add_library(tap_cut MODULE tap_cut.c)
target_link_libraries(tap_cut PRIVATE Threads::Threads)
set_target_properties(tap_cut PROPERTIES PREFIX ""
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
tide_test(test_tap_promise SOURCES test_tap_promise.c tap_rig.c
  DEPS common_hrl common_core PkgConfig::libnbd LABELS system TIMEOUT 60)
add_dependencies(test_tap_promise tidemark-tap tap_cut)
tide_test(test_tap_large SOURCES test_tap_large.c tap_rig.c
  DEPS tap_engine PkgConfig::libnbd LABELS system TIMEOUT 120)
add_dependencies(test_tap_large tidemark-tap tidemark)
# Under QEMU's block layer (qemu-nbd): a tap stopped, killed and started anew.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME system_tap_qemu
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/test_tap_qemu.py)
set_tests_properties(system_tap_qemu PROPERTIES LABELS system TIMEOUT 180
  ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
# The engine on a disk in memory that is cut at every write and sync.
include(${CMAKE_SOURCE_DIR}/tests/lib/crashcalls.cmake)
set(TAPLAB_SOURCES taplab.c tapjudge.c ../lib/crashcalls.c ../lib/crashdisk.c ../lib/crashtree.c)
tide_test(test_tap_crashpoints SOURCES test_tap_crashpoints.c ${TAPLAB_SOURCES}
  DEPS tap_engine LABELS system TIMEOUT 300 ARGS 0 4)
target_link_options(test_tap_crashpoints PRIVATE ${CRASHCALLS_OPTIONS} -Wl,--wrap=ring_geometry)
foreach(arguments IN ITEMS "1 4" "2 4" "3 4" "--walk 3000" "--planted")
  string(MAKE_C_IDENTIFIER "test_tap_crashpoints_${arguments}" name)
  separate_arguments(arguments)
  add_test(NAME ${name} COMMAND test_tap_crashpoints ${arguments})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 LABELS system)
endforeach()
tide_test(test_tap_failnth SOURCES test_tap_failnth.c ${TAPLAB_SOURCES}
  DEPS tap_engine LABELS system TIMEOUT 300)
target_link_options(test_tap_failnth PRIVATE ${CRASHCALLS_OPTIONS} -Wl,--wrap=ring_geometry)
