tide_test(test_tapclient SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_tapclient.c DEPS participant
  LABELS contract)
if(TARGET tidemark-coordinator)
  tide_test(test_comparer LABELS contract
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_comparer.c ${CMAKE_CURRENT_LIST_DIR}/far_rig.c
    DEPS participant common_wire common_io common_hrl common_core)
  add_dependencies(test_comparer tidemark-coordinator)
endif()
