/* Makes a process's calls for files below one directory fail, stall, dawdle, come back short or
 * bring wrong bits.
 *
 * LD_PRELOAD it with KVTIER_FAULTS (a file of rules, below) and KVTIER_FAULTS_BELOW (the
 * directory). The rules may change while the process runs: disk_faults.py is the other side.
 * io_uring is refused: its requests do not go through libc. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ, WRITE, SYNC, ALLOCATE, PUNCH, OPEN, OPEN_DIRECT, PROBE, KINDS };
enum { EVERYWHERE, SEGMENTS, OTHERS };

struct rule {
  int error;   /* errno value to fail with; 0: none */
  int count;   /* of calls to fail, delay, shorten or flip; -1: all */
  int delay_ms;
  int shorten; /* at most so many bytes move; 0: all */
  int flip;    /* one bit of what a read brings is another one */
  int stall;   /* calls wait while this is set */
  int where;   /* which files */
  int hits;    /* calls that met the rule */
  int waiting; /* calls that wait now */
};

static struct rule *rules;
static const char *below;

__attribute__((constructor)) static void attach(void) {
  const char *path = getenv("KVTIER_FAULTS");
  below = getenv("KVTIER_FAULTS_BELOW");
  if (path == NULL || below == NULL) return;
  int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
  int fd = real_open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *memory = mmap(NULL, KINDS * sizeof *rules, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory != MAP_FAILED) rules = memory;
}

static int is_ours(int fd, int where) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, below, strlen(below)) != 0) return 0;
  int is_segment = strstr(path, "/segment-") != NULL;
  return where == EVERYWHERE || (where == SEGMENTS) == is_segment;
}

static int take(int *count) {
  int left = __atomic_load_n(count, __ATOMIC_SEQ_CST);
  while (left > 0) {
    if (__atomic_compare_exchange_n(count, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      return 1;
  }
  return left != 0;
}

/* The rule's error, or 0; `limit`: the most bytes that may move, unchanged if all may; `flips`: set
 * if the rule flips. */
static int meet(int kind, int fd, size_t *limit, int *flips) {
  if (rules == NULL) return 0;
  struct rule *rule = &rules[kind];
  int stall = __atomic_load_n(&rule->stall, __ATOMIC_SEQ_CST);
  int count = __atomic_load_n(&rule->count, __ATOMIC_SEQ_CST);
  if (!stall && count == 0) return 0;
  if (!is_ours(fd, rule->where)) return 0;
  if (stall) {
    __atomic_add_fetch(&rule->hits, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&rule->waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&rule->stall, __ATOMIC_SEQ_CST)) usleep(1000);
    __atomic_sub_fetch(&rule->waiting, 1, __ATOMIC_SEQ_CST);
  }
  if (!take(&rule->count)) return 0;
  __atomic_add_fetch(&rule->hits, 1, __ATOMIC_SEQ_CST);
  if (rule->delay_ms > 0) usleep((useconds_t)rule->delay_ms * 1000);
  if (flips != NULL) *flips = rule->flip;
  if (rule->shorten > 0 && limit != NULL && *limit > (size_t)rule->shorten) {
    *limit = (size_t)rule->shorten;
  }
  return rule->error;
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_IF(error) \
  do { \
    int code = (error); \
    if (code != 0) { \
      errno = code; \
      return -1; \
    } \
  } while (0)

/* The store reads by preadv; only its trial of O_DIRECT is a pread. */
ssize_t pread(int fd, void *to, size_t bytes, off_t at) {
  REAL(pread);
  FAIL_IF(meet(PROBE, fd, &bytes, NULL));
  return real(fd, to, bytes, at);
}

ssize_t pwrite(int fd, const void *from, size_t bytes, off_t at) {
  REAL(pwrite);
  FAIL_IF(meet(WRITE, fd, &bytes, NULL));
  return real(fd, from, bytes, at);
}

/* The first pieces up to `limit` bytes. */
static int shorten(const struct iovec *pieces, int count, size_t limit, struct iovec *cut) {
  int used = 0;
  for (; used < count && limit > 0; ++used) {
    cut[used] = pieces[used];
    if (cut[used].iov_len > limit) cut[used].iov_len = limit;
    limit -= cut[used].iov_len;
  }
  return used;
}

/* Somewhere in the first `moved` bytes; over many calls, everywhere. */
static void flip_one_bit(const struct iovec *pieces, size_t moved) {
  static uint64_t draw = 88172645463325252u;
  uint64_t drawn = __atomic_add_fetch(&draw, 0x9E3779B97F4A7C15u, __ATOMIC_SEQ_CST);
  drawn = (drawn ^ (drawn >> 30)) * 0xBF58476D1CE4E5B9u;
  drawn ^= drawn >> 27;
  size_t at = (size_t)(drawn % moved);
  while (at >= pieces->iov_len) at -= (pieces++)->iov_len;
  ((unsigned char *)pieces->iov_base)[at] ^= (unsigned char)(1 << (drawn >> 61));
}

ssize_t preadv(int fd, const struct iovec *pieces, int count, off_t at) {
  REAL(preadv);
  size_t limit = (size_t)-1;
  int flips = 0;
  struct iovec cut[IOV_MAX];
  FAIL_IF(meet(READ, fd, &limit, &flips));
  ssize_t moved = real(fd, cut, shorten(pieces, count, limit, cut), at);
  if (flips && moved > 0) flip_one_bit(pieces, (size_t)moved);
  return moved;
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
  REAL(pwritev);
  size_t limit = (size_t)-1;
  struct iovec cut[IOV_MAX];
  FAIL_IF(meet(WRITE, fd, &limit, NULL));
  return real(fd, cut, shorten(pieces, count, limit, cut), at);
}

int fdatasync(int fd) {
  REAL(fdatasync);
  FAIL_IF(meet(SYNC, fd, NULL, NULL));
  return real(fd);
}

int fsync(int fd) {
  REAL(fsync);
  FAIL_IF(meet(SYNC, fd, NULL, NULL));
  return real(fd);
}

int fallocate(int fd, int mode, off_t at, off_t bytes) {
  REAL(fallocate);
  FAIL_IF(meet(mode & FALLOC_FL_PUNCH_HOLE ? PUNCH : ALLOCATE, fd, NULL, NULL));
  return real(fd, mode, at, bytes);
}

/* By the directory's descriptor: the store opens its files below it. */
int openat(int fd, const char *name, int flags, ...) {
  REAL(openat);
  mode_t mode = 0;
  if (flags & O_CREAT) {
    va_list more;
    va_start(more, flags);
    mode = va_arg(more, mode_t);
    va_end(more);
  }
  if (fd >= 0) FAIL_IF(meet(OPEN, fd, NULL, NULL));
  if (fd >= 0 && flags & O_DIRECT) FAIL_IF(meet(OPEN_DIRECT, fd, NULL, NULL));
  return real(fd, name, flags, mode);
}

long syscall(long number, ...) {
  REAL(syscall);
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
