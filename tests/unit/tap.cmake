# What of the plugin stands outside its engine.
tide_test(test_quota SOURCES test_quota.c ${CMAKE_SOURCE_DIR}/participant/tap/quota.c)
