/* A disk that is full from the n-th write on, for one process and some folders: preloaded before the C library.

   Whatever asks the system for room below one of the folders is counted: writing, reserving, syncing, and making files,
   folders and links. It comes from Python, Rust (safetensors) and C++ (pyarrow) alike. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char roots[8][PATH_MAX];
static int n_roots = 0, number = ENOSPC, only_once = 0, log_fd = -1;
static long fail_from = 0;
static atomic_long calls = 0;

/* Begin to count; from the `from`-th call on (0: never) fail with `error`, or `once` alone. */
void full_disk(const char *folders, long from, int error, int once, const char *log) {
    char *copy = strdup(folders), *save = NULL;
    for (char *one = strtok_r(copy, "\n", &save); one && n_roots < 8; one = strtok_r(NULL, "\n", &save))
        snprintf(roots[n_roots++], PATH_MAX, "%s/", one);
    free(copy);
    fail_from = from, number = error, only_once = once;
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static int below(const char *path) {
    for (int i = 0; i < n_roots; i++)
        if (strncmp(path, roots[i], strlen(roots[i])) == 0) return 1;
    return 0;
}

/* Count a call; return 1 where it shall fail. */
static int full(const char *what, const char *path) {
    if (!below(path)) return 0;
    long n = atomic_fetch_add(&calls, 1) + 1;
    int fails = fail_from && (only_once ? n == fail_from : n >= fail_from);
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld\t%s\t%d\t%s\n", n, what, fails, path);
    if (log_fd >= 0) syscall(SYS_write, log_fd, line, length);
    if (fails) errno = number;
    return fails;
}

static int full_fd(const char *what, int fd) {
    char link[64], path[PATH_MAX];
    if (!n_roots || fd == log_fd) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return full(what, path);
}

/* A path from a folder's descriptor or the working directory. */
static int full_at(const char *what, int folder, const char *path) {
    char whole[2 * PATH_MAX], link[64] = "/proc/self/cwd";
    if (!n_roots) return 0;
    if (path[0] == '/') return full(what, path);
    if (folder != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    if (length < 0) return 0;
    snprintf(whole + length, PATH_MAX, "/%s", path);
    return full(what, whole);
}

/* The same for what is made, where nothing has that name yet. */
static int new_at(const char *what, int folder, const char *path) {
    return syscall(SYS_faccessat, folder, path, F_OK) != 0 && full_at(what, folder, path);
}

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t n) { NEXT(write); return full_fd("write", fd) ? -1 : next(fd, data, n); }
ssize_t writev(int fd, const struct iovec *v, int n) { NEXT(writev); return full_fd("write", fd) ? -1 : next(fd, v, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    NEXT(pwrite);
    return full_fd("write", fd) ? -1 : next(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    NEXT(pwrite64);
    return full_fd("write", fd) ? -1 : next(fd, data, n, at);
}
int posix_fallocate(int fd, off_t at, off_t n) { NEXT(posix_fallocate); return full_fd("reserve", fd) ? number : next(fd, at, n); }
int posix_fallocate64(int fd, off64_t at, off64_t n) {
    NEXT(posix_fallocate64);
    return full_fd("reserve", fd) ? number : next(fd, at, n);
}
/* Counted, not done: what is looked for is what a refusal leaves, and a disk that others use takes seconds for it. */
int fsync(int fd) { return full_fd("sync", fd) ? -1 : 0; }
int fdatasync(int fd) { return full_fd("sync", fd) ? -1 : 0; }
void sync(void) {}
int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    return new_at("folder", AT_FDCWD, path) ? -1 : next(path, mode);
}
int mkdirat(int f, const char *path, mode_t mode) {
    NEXT(mkdirat);
    return new_at("folder", f, path) ? -1 : next(f, path, mode);
}
int symlink(const char *to, const char *path) { NEXT(symlink); return full_at("link", AT_FDCWD, path) ? -1 : next(to, path); }
int symlinkat(const char *to, int f, const char *path) { NEXT(symlinkat); return full_at("link", f, path) ? -1 : next(to, f, path); }

#define OPENED(name, call, folder)                                                     \
    mode_t mode = 0;                                                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                             \
        va_list rest;                                                                  \
        va_start(rest, flags);                                                         \
        mode = va_arg(rest, mode_t);                                                   \
        va_end(rest);                                                                  \
    }                                                                                  \
    NEXT(name);                                                                        \
    if ((flags & O_CREAT) && new_at("file", folder, path)) return -1;                  \
    return call

int open(const char *path, int flags, ...) { OPENED(open, next(path, flags, mode), AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPENED(open64, next(path, flags, mode), AT_FDCWD); }
int openat(int f, const char *path, int flags, ...) { OPENED(openat, next(f, path, flags, mode), f); }
int openat64(int f, const char *path, int flags, ...) { OPENED(openat64, next(f, path, flags, mode), f); }
