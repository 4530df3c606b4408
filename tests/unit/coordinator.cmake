tide_test(test_intake SOURCES test_intake.c DEPS common_wire common_core)
if(TARGET coordinator_group_file)
  tide_test(test_group_file SOURCES test_group_file.c DEPS coordinator_group_file)
endif()
