tide_test(test_link SOURCES test_link.c io_sites.c DEPS common_io common_core LABELS contract)
tide_test(test_local SOURCES test_local.c io_sites.c DEPS common_io common_core LABELS contract)
tide_test(test_http SOURCES test_http.c io_sites.c DEPS common_io common_core LABELS contract)
tide_test(test_link_nng SOURCES test_link_nng.c nng_relay.c io_sites.c DEPS common_io common_core LABELS contract)
foreach(name IN ITEMS test_link_hostile test_link_flood test_renewal)
  tide_test(${name} SOURCES ${name}.c siege.c foe.c io_sites.c DEPS common_io common_core
    LABELS contract TIMEOUT 60)
endforeach()
