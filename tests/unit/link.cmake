tide_test(test_io SOURCES test_io.c DEPS common_io common_core)
