find_package(Python3 REQUIRED COMPONENTS Interpreter)
tide_test(test_tapclient SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_tapclient.c DEPS participant
  LABELS contract)
foreach(part IN ITEMS commands offline)
  add_test(NAME test_disk_${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/test_disk_${part}.py)
  set_tests_properties(test_disk_${part} PROPERTIES TIMEOUT 120 LABELS contract
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
if(TARGET tidemark-coordinator)
  tide_test(test_comparer LABELS contract
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_comparer.c ${CMAKE_CURRENT_LIST_DIR}/far_rig.c
    DEPS participant common_wire common_io common_hrl common_core)
  add_dependencies(test_comparer tidemark-coordinator)
endif()
