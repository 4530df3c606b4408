# Real daemons, taps and a coordinator on loopback addresses.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
foreach(part IN ITEMS run unheld epochs disks kills stream copy full config renew)
  add_test(NAME system_daemon_${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/daemon.py ${part})
  set_tests_properties(system_daemon_${part} PROPERTIES LABELS system TIMEOUT 120
    SKIP_RETURN_CODE 77
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
foreach(store IN ITEMS encrypted plain)
  add_test(NAME system_point_verify_${store}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/verify.py ${store})
  set_tests_properties(system_point_verify_${store} PROPERTIES LABELS system TIMEOUT 120
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
# A group that lacks a member, or has a slow one.
foreach(part IN ITEMS missing partial slow)
  add_test(NAME system_alone_${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/alone.py ${part})
  set_tests_properties(system_alone_${part} PROPERTIES LABELS system TIMEOUT 120
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
# Disks that become whole again by themselves, end to end.
foreach(part IN ITEMS overload power fork resize orders)
  add_test(NAME system_resync_${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/resync.py ${part})
  set_tests_properties(system_resync_${part} PROPERTIES LABELS system TIMEOUT 180
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
# A tap that holds for too long, which only leaks.py --planted loads.
set(tap ${CMAKE_SOURCE_DIR}/participant/tap)
add_library(tidemark-tap-planted MODULE planted_tap.c ${tap}/plugin.c ${tap}/leave.c ${tap}/quota.c
  ${CMAKE_SOURCE_DIR}/participant/core/gate.c)
target_compile_definitions(tidemark-tap-planted PRIVATE TIDE_PLANTED)
target_link_libraries(tidemark-tap-planted PRIVATE tap_engine)
set_target_properties(tidemark-tap-planted PROPERTIES PREFIX ""
  OUTPUT_NAME nbdkit-tidemark-planted-plugin LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
# No hold outlasts its budget: the short form; tests/soak.sh has the long one. At a high priority, so
# nothing else runs beside it.
set(system_leaks --rounds 120)
set(system_leaks_planted --rounds 60 --planted)
foreach(name IN ITEMS system_leaks system_leaks_planted)
  add_test(NAME ${name}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/leaks.py ${${name}})
  set_tests_properties(${name} PROPERTIES LABELS system TIMEOUT 120 RUN_SERIAL ON
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
# Many members, all real processes: 16, 64, and several behind one daemon.
foreach(part IN ITEMS "members 16" "members 64" machine)
  string(MAKE_C_IDENTIFIER "system_scale_${part}" name)
  separate_arguments(part)
  add_test(NAME ${name}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/scale.py ${part})
  set_tests_properties(${name} PROPERTIES LABELS system TIMEOUT 240
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
add_test(NAME system_wire_versions
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/versions.py)
set_tests_properties(system_wire_versions PROPERTIES LABELS system TIMEOUT 180
  ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
