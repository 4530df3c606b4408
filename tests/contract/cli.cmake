tide_test(test_canary_files SOURCES test_canary_files.c DEPS cli_canary_io LABELS contract)
add_dependencies(test_canary_files tidemark)
