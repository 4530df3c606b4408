foreach(name IN ITEMS record log segment)
  tide_test(test_${name} SOURCES test_${name}.c DEPS common_hrl)
endforeach()
tide_test(test_align SOURCES test_align.c DEPS coordinator_core)
