tide_test(test_canary_files SOURCES test_canary_files.c DEPS cli_canary_io LABELS contract)
add_dependencies(test_canary_files tidemark)

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME test_examples COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/test_examples.py)
set_tests_properties(test_examples PROPERTIES TIMEOUT 120 LABELS contract
  ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
add_test(NAME test_units COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/test_units.py)
set_tests_properties(test_units PROPERTIES TIMEOUT 60 LABELS contract
  ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")

# Label unit: it needs files alone, and reads hostile ones, so the sanitizers are to see it.
tide_test(test_point_verify SOURCES test_point_verify.c point_lab.c DEPS coordinator_verify common_io common_wire
  common_hrl common_core PkgConfig::jansson LABELS unit)
add_dependencies(test_point_verify tidemark)
