foreach(name IN ITEMS tap_disk tap_hold tap_crash tap_full)
  tide_test(test_${name} SOURCES test_${name}.c tap_rig.c
    DEPS common_hrl common_core PkgConfig::libnbd LABELS system TIMEOUT 60)
  add_dependencies(test_${name} tidemark-tap)
endforeach()
