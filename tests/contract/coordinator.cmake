if(TARGET tidemark-coordinator)
  foreach(name IN ITEMS test_coordinator test_coordinator_peers test_coordinator_disks test_hashes test_coordinator_staged)
    tide_test(${name} SOURCES ${name}.c far_rig.c LABELS contract TIMEOUT 60
      DEPS coordinator_recover coordinator_store common_wire common_io common_hrl common_core)
    add_dependencies(${name} tidemark-coordinator)
  endforeach()
endif()
if(TARGET coordinator_catalog)
  tide_test(test_catalog SOURCES test_catalog.c LABELS contract DEPS coordinator_catalog)
endif()
tide_test(test_keyring SOURCES test_keyring.c LABELS contract
  DEPS coordinator_store coordinator_core common_io common_hrl common_core)
