tide_test(test_canary SOURCES test_canary.c DEPS cli_canary_core)
tide_test(test_cli SOURCES test_cli.c DEPS cli_frame)
