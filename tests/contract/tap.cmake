# The tap's engine in the test's own process: the one way the sanitizers can see its threads.
tide_test(test_tap_threads SOURCES test_tap_threads.c ../system/tap_rig.c
  DEPS tap_engine PkgConfig::libnbd LABELS unit TIMEOUT 60)
tide_test(test_tap_copy_threads SOURCES test_tap_copy_threads.c ../system/tap_far.c
  ../system/tap_rig.c DEPS tap_engine PkgConfig::libnbd LABELS unit TIMEOUT 120)
tide_test(test_tap_ring SOURCES test_tap_ring.c DEPS tap_engine LABELS unit TIMEOUT 60)
tide_test(test_fail_send_tap SOURCES test_fail_send_tap.c ../system/tap_rig.c
  DEPS tap_engine PkgConfig::libnbd LABELS contract TIMEOUT 60)
foreach(call IN ITEMS send sendmsg accept4 poll chmod listen)
  target_link_options(test_fail_send_tap PRIVATE -Wl,--wrap=${call})
endforeach()
