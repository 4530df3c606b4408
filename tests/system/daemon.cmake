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
# Machines in network namespaces, under one nemesis each.
foreach(part IN ITEMS leader half one-way ring pause coordinator alone torn)
  add_test(NAME system_nemesis_${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/nemesis.py ${part})
  set_tests_properties(system_nemesis_${part} PROPERTIES LABELS system TIMEOUT 180
    SKIP_RETURN_CODE 77
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
