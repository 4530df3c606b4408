find_package(Python3 REQUIRED COMPONENTS Interpreter)
tide_test(test_tapclient SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_tapclient.c DEPS participant
  LABELS contract)
foreach(part IN ITEMS commands offline)
  add_test(NAME test_disk_${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/test_disk_${part}.py)
  set_tests_properties(test_disk_${part} PROPERTIES TIMEOUT 120 LABELS contract
    ENVIRONMENT "TIDE_SOURCE=${CMAKE_SOURCE_DIR};TIDE_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
if(TARGET tidemark-coordinator)
  tide_test(test_comparer LABELS contract
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_comparer.c ${CMAKE_CURRENT_LIST_DIR}/far_rig.c
    DEPS participant common_wire common_io common_hrl common_core)
  add_dependencies(test_comparer tidemark-coordinator)
endif()
tide_test(test_tapset SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_tapset.c DEPS participant
  LABELS contract)
if(TARGET tidemark-coordinator)
  tide_test(test_shipper SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_shipper.c
      ${CMAKE_CURRENT_LIST_DIR}/far_rig.c ${CMAKE_CURRENT_LIST_DIR}/cut_proxy.c
    DEPS participant coordinator_store common_wire common_io common_hrl common_core
    LABELS contract TIMEOUT 120)
  add_dependencies(test_shipper tidemark-coordinator)
  tide_test(test_file_faults SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_file_faults.c
      ${CMAKE_CURRENT_LIST_DIR}/far_rig.c
    DEPS participant coordinator_store common_wire common_io common_hrl common_core
    LABELS contract TIMEOUT 120)
  foreach(call IN ITEMS open write pwrite fsync fdatasync rename renameat2 mkdir ftruncate)
    target_link_options(test_file_faults PRIVATE -Wl,--wrap=${call})
  endforeach()
  foreach(part IN ITEMS "" _store _boxes _groups _catalog _points _tls _daemon _verify)
    tide_test(test_fail_alloc${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_fail_alloc${part}.c
        ${CMAKE_CURRENT_LIST_DIR}/nth.c ${CMAKE_CURRENT_LIST_DIR}/nth_sql.c
        ${CMAKE_CURRENT_LIST_DIR}/far_rig.c ${CMAKE_CURRENT_LIST_DIR}/io_sites.c
        ${CMAKE_CURRENT_LIST_DIR}/point_lab.c
      DEPS participant coordinator_verify coordinator_intake common_wire common_io common_hrl common_core
      LABELS contract TIMEOUT 120)
    foreach(call IN ITEMS malloc calloc realloc strdup free)
      target_link_options(test_fail_alloc${part} PRIVATE -Wl,--wrap=${call})
    endforeach()
  endforeach()
  target_link_options(test_fail_alloc_daemon PRIVATE -Wl,--wrap=loop_post)
  target_link_options(test_fail_alloc_points PRIVATE -Wl,--wrap=loop_timer_set
    -Wl,--wrap=pool_submit)
  tide_test(test_fail_send SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_fail_send.c
      ${CMAKE_CURRENT_LIST_DIR}/far_rig.c ${CMAKE_CURRENT_LIST_DIR}/io_sites.c
      ${CMAKE_CURRENT_LIST_DIR}/cut_proxy.c
    DEPS participant coordinator_store common_wire common_io common_hrl common_core
    LABELS contract TIMEOUT 120)
  add_dependencies(test_fail_send tidemark-coordinator)
  foreach(call IN ITEMS send SSL_write SSL_get_error malloc calloc)
    target_link_options(test_fail_send PRIVATE -Wl,--wrap=${call})
  endforeach()
endif()
