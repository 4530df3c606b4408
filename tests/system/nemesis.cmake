# Machines in network namespaces, under one nemesis each.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
foreach(part IN ITEMS leader half one-way ring pause coordinator alone torn delay slow-disk failing-disk
    full-disk kill-member kill-leader kill-coordinator kill-tap memory clock certificates mounted)
  add_test(NAME system_nemesis_${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/nemesis.py ${part})
  set_tests_properties(system_nemesis_${part} PROPERTIES LABELS system TIMEOUT 300
    SKIP_RETURN_CODE 77
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()

# The daemons with fault points (common/io/faultpoint.h); nothing else has them. What has such points
# is compiled anew, and comes before the archive's.
add_executable(tidemark-participant-faults faultpoint.c ${CMAKE_SOURCE_DIR}/participant/main.c
  ${CMAKE_SOURCE_DIR}/participant/seat.c)
target_link_libraries(tidemark-participant-faults PRIVATE participant)
set(far ${CMAKE_SOURCE_DIR}/coordinator)
add_executable(tidemark-coordinator-faults faultpoint.c ${far}/main.c ${far}/service.c
  ${far}/settings.c ${far}/intake/arrival.c ${far}/intake/points.c)
target_link_libraries(tidemark-coordinator-faults PRIVATE coordinator_intake common_io common_core)
foreach(name IN ITEMS tidemark-participant-faults tidemark-coordinator-faults)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE TIDE_FAULT_POINTS)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endforeach()

# A wall clock of one's own, preloaded.
add_library(clock_shift MODULE clock_shift.c)
target_link_libraries(clock_shift PRIVATE Threads::Threads)
set_target_properties(clock_shift PROPERTIES PREFIX ""
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
