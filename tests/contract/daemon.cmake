tide_test(test_tapclient SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_tapclient.c DEPS participant
  LABELS contract)
