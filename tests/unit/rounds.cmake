set(lab ${CMAKE_SOURCE_DIR}/tests/lib)
add_library(roundlab STATIC ${lab}/roundlab.c ${lab}/roundlab_daemon.c ${lab}/roundlab_define.c
  ${lab}/roundlab_guest.c
  ${lab}/roundlab_judge.c ${lab}/roundlab_queue.c ${lab}/roundlab_say.c ${lab}/roundlab_tap.c)
target_include_directories(roundlab PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(roundlab PUBLIC participant_core coordinator_core common_wire common_hrl
  common_core)
tide_test(test_rounds SOURCES test_rounds.c DEPS roundlab)
tide_test(test_lack SOURCES test_lack.c DEPS roundlab)
tide_test(test_rounds_random SOURCES test_rounds_random.c DEPS roundlab)
tide_test(test_member SOURCES test_member.c DEPS participant_core)
tide_test(test_definition SOURCES test_definition.c DEPS common_core)
