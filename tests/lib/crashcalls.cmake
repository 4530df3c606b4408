# The calls that crashcalls.c takes the place of.
set(CRASHCALLS_OPTIONS)
foreach(call IN ITEMS open __open_2 close read __read_chk pread __pread_chk write pwrite pwritev
    fdatasync fsync fallocate posix_fallocate ftruncate lseek fstat stat lstat access statx rename
    unlink mkdir chmod flock futimens fsetxattr fgetxattr getxattr fremovexattr fcntl posix_fadvise
    ioctl socket eventfd bind connect listen clock_gettime getrandom malloc calloc realloc free pthread_cond_wait
    pthread_cond_timedwait)
  list(APPEND CRASHCALLS_OPTIONS "-Wl,--wrap=${call}")
endforeach()
