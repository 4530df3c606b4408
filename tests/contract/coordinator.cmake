if(TARGET tidemark-coordinator)
  tide_test(test_coordinator SOURCES test_coordinator.c far_rig.c LABELS contract TIMEOUT 60
    DEPS coordinator_recover coordinator_store common_wire common_io common_hrl common_core)
  add_dependencies(test_coordinator tidemark-coordinator)
endif()
