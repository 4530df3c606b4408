tide_test(test_core SOURCES test_core.c DEPS common_core)
tide_test(test_witness SOURCES test_witness.c DEPS common_core)
