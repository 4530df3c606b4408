tide_test(test_core SOURCES test_core.c DEPS common_core)
