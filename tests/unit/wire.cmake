tide_test(test_envelope SOURCES test_envelope.c DEPS common_wire)
tide_test(test_certificate SOURCES test_certificate.c DEPS common_wire)
