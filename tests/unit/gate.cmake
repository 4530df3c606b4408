tide_test(test_gate SOURCES test_gate.c DEPS participant_core common_core)
tide_test(test_tapctl SOURCES test_tapctl.c DEPS common_core)
