/* Gives directories the rates of slower disks: LD_PRELOAD it with KVTIER_THROTTLE, a file of limits
 * that throttle.py writes and may change while the process runs. A directory is a disk that does
 * one request after the other; a request ends when it would have, or when the real disk has ended
 * it, whichever is later. io_uring is refused: its requests cannot be seen here. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LIMITS 8

struct limit {
  char below[240];         /* the directory; empty: no limit */
  uint64_t bytes_per_s;    /* 0: as fast as it is */
  uint64_t busy_until_ns;  /* what it was given ends then */
};

static struct limit *limits;

__attribute__((constructor)) static void attach(void) {
  const char *path = getenv("KVTIER_THROTTLE");
  if (path == NULL) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *memory = mmap(NULL, LIMITS * sizeof *limits, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory != MAP_FAILED) limits = memory;
}

static struct limit *limit_of(int fd) {
  char link[64], path[4096];
  if (limits == NULL) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return NULL;
  path[length] = 0;
  for (int i = 0; i < LIMITS; i++) {
    size_t below = strlen(limits[i].below);
    if (below == 0 || strncmp(path, limits[i].below, below) != 0 || path[below] != '/') continue;
    return __atomic_load_n(&limits[i].bytes_per_s, __ATOMIC_SEQ_CST) ? &limits[i] : NULL;
  }
  return NULL;
}

/* When the request may end. */
static uint64_t reserve(struct limit *limit, size_t bytes) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  uint64_t takes_ns = (uint64_t)((double)bytes * 1e9 / (double)limit->bytes_per_s);
  uint64_t before = __atomic_load_n(&limit->busy_until_ns, __ATOMIC_SEQ_CST), end;
  do {
    end = (before > now_ns ? before : now_ns) + takes_ns;
  } while (!__atomic_compare_exchange_n(&limit->busy_until_ns, &before, end, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
  return end;
}

static void sleep_until(uint64_t end_ns) {
  struct timespec end = {(time_t)(end_ns / 1000000000u), (long)(end_ns % 1000000000u)};
  int error = errno;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) {
  }
  errno = error;
}

static size_t total(const struct iovec *pieces, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += pieces[i].iov_len;
  return bytes;
}

#define THROTTLED(name)                                                                \
  ssize_t name(int fd, const struct iovec *pieces, int count, off_t offset) {          \
    static ssize_t (*real)(int, const struct iovec *, int, off_t);                     \
    if (real == NULL) real = dlsym(RTLD_NEXT, #name);                                  \
    struct limit *limit = limit_of(fd);                                                \
    uint64_t end = limit ? reserve(limit, total(pieces, count)) : 0;                   \
    ssize_t moved = real(fd, pieces, count, offset);                                   \
    if (limit) sleep_until(end);                                                       \
    return moved;                                                                      \
  }

THROTTLED(preadv)
THROTTLED(pwritev)
THROTTLED(preadv64)
THROTTLED(pwritev64)

long syscall(long number, ...) {
  static long (*real)(long, ...);
  if (real == NULL) real = dlsym(RTLD_NEXT, "syscall");
  if (number == SYS_io_uring_setup) {
    errno = ENOSYS;
    return -1;
  }
  va_list list;
  va_start(list, number);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
  long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
  va_end(list);
  return real(number, a, b, c, d, e, f);
}
