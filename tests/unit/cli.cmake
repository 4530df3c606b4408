tide_test(test_canary SOURCES test_canary.c DEPS cli_canary_core)
tide_test(test_cli SOURCES test_cli.c DEPS cli_frame)
tide_test(test_disk_find SOURCES test_disk_find.c DEPS cli_frame)

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME test_quickstart
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/test_quickstart.py)
set_tests_properties(test_quickstart PROPERTIES TIMEOUT 60 LABELS unit)
