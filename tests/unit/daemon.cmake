tide_test(test_participant_settings SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_participant_settings.c DEPS participant)
tide_test(test_cutlog SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_cutlog.c DEPS participant)
tide_test(test_cutter SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_cutter.c DEPS participant)
foreach(name IN ITEMS window bandwidth)
  tide_test(test_${name} SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_${name}.c
    DEPS participant_core common_core)
endforeach()
