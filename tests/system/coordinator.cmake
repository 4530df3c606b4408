if(TARGET tidemark-coordinator)
  tide_test(test_coordinator_full SOURCES test_coordinator_full.c ../contract/far_rig.c
    LABELS system TIMEOUT 60
    DEPS coordinator_recover coordinator_store common_wire common_io common_hrl common_core)
  set_tests_properties(test_coordinator_full PROPERTIES SKIP_RETURN_CODE 77)
  add_dependencies(test_coordinator_full tidemark-coordinator)
endif()
