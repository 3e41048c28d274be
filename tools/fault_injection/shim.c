/* Library for LD_PRELOAD that lets calls which change files below one folder fail, be short or be slow.

Environment:
    FAULTS_FOLDER  absolute path without links; only files and folders below it count
    FAULTS_JUMP_S  seconds by which the wall clock jumps FAULTS_JUMP_AFTER_S seconds after the process has started

The counters lie in shared memory, so that a process sees the calls of the children that it forks after loading.
Streams of stdio write inside libc, where no call can be replaced. For them, fwrite counts instead of write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { OPEN, WRITE, SYNC, RENAME, MKDIR, TRUNCATE, REMOVE, CLOSE, KINDS };
enum mode { COUNT, ERROR, FULL, SHORT, SLOW };
#define TRACED 8192
#define PAUSE_S 1
static const char *const names[KINDS] = {"open", "write", "fsync", "rename", "mkdir", "truncate", "remove", "close"};

struct faults {
    int mode;
    unsigned kinds;          /* bit set of the kinds that count */
    long first, count;       /* number of the faulty call, from 1, and number of calls so far */
    int struck;
    char where[PATH_MAX + 32]; /* kind and path of the faulty call */
    char trace[TRACED][256];   /* kind and path of the first calls, the latter cut on the left */
};
static struct faults *faults;
static char folder[PATH_MAX];
static size_t folder_length;
static char watched[65536]; /* by descriptor: opened for writing below the folder */
static double jump_s, jump_after_s;
static struct timespec started;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULTS_FOLDER");
    if (path && strlen(path) < sizeof folder) {
        strcpy(folder, path);
        folder_length = strlen(folder);
    }
    faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (faults == MAP_FAILED) abort();
    jump_s = getenv("FAULTS_JUMP_S") ? atof(getenv("FAULTS_JUMP_S")) : 0;
    jump_after_s = getenv("FAULTS_JUMP_AFTER_S") ? atof(getenv("FAULTS_JUMP_AFTER_S")) : 0;
    clock_gettime(CLOCK_MONOTONIC, &started);
}

/* Functions for ctypes. mode FULL lets every call from `first` on fail, the other modes only the call `first`. */
void faults_arm(int mode, long first, unsigned kinds) {
    memset(faults, 0, sizeof *faults);
    faults->first = first, faults->kinds = kinds;
    faults->mode = mode;
}
long faults_count(void) { return faults->count; }
const char *faults_trace(long number) { return number < TRACED ? faults->trace[number] : ""; } /* from 0 */
const char *faults_where(void) { return faults->where; }

static int below(const char *path) {
    return folder_length && !strncmp(path, folder, folder_length) && (!path[folder_length] || path[folder_length] == '/');
}

/* Write the absolute path of `path` relative to the folder `dir`; links in it are not resolved. */
static void absolute(int dir, const char *path, char *out) {
    char base[PATH_MAX] = "", link[64];
    if (path[0] != '/') {
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) length = 0;
        base[length] = 0;
        strcat(base, "/");
    }
    snprintf(out, PATH_MAX, "%.*s%s", (int)(PATH_MAX - 1 - strnlen(path, PATH_MAX - 1)), base, path);
}

enum outcome { GO, FAIL, HALF };

/* Count a call, and say whether it fails (errno is set), is short, or goes on, possibly after a pause. */
static enum outcome strike(enum kind kind, const char *path) {
    if (!(faults->kinds >> kind & 1)) return GO;
    long number = __atomic_add_fetch(&faults->count, 1, __ATOMIC_SEQ_CST);
    size_t length = strlen(path);
    if (number <= TRACED)
        snprintf(faults->trace[number - 1], sizeof *faults->trace, "%s %s", names[kind],
                 length > 240 ? path + length - 240 : path);
    if (faults->mode == COUNT || (faults->mode == FULL ? number < faults->first : number != faults->first)) return GO;
    if (!__atomic_exchange_n(&faults->struck, 1, __ATOMIC_SEQ_CST))
        snprintf(faults->where, sizeof faults->where, "%s %s", names[kind], path);
    if (faults->mode == SLOW) {
        sleep(PAUSE_S);
        return GO;
    }
    if (faults->mode == SHORT) return HALF;
    errno = faults->mode == FULL ? ENOSPC : EIO;
    return FAIL;
}

static enum outcome strike_path(enum kind kind, int dir, const char *path) {
    char full[PATH_MAX];
    int before = errno;
    absolute(dir, path, full);
    errno = before;
    return below(full) ? strike(kind, full) : GO;
}

static enum outcome strike_descriptor(enum kind kind, int fd) {
    if (fd < 0 || fd >= (int)sizeof watched || !watched[fd]) return GO;
    char link[64], path[PATH_MAX] = "?";
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) path[length] = 0;
    errno = before;
    return strike(kind, path);
}

#define REAL(type, name, ...)                                                                                         \
    static type (*real)(__VA_ARGS__);                                                                                 \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

/* --- open --- */

static int watch(int fd, int flags, int dir, const char *path) {
    char full[PATH_MAX];
    if (fd < 0 || fd >= (int)sizeof watched) return fd;
    absolute(dir, path, full);
    watched[fd] = (flags & O_ACCMODE) != O_RDONLY && below(full);
    return fd;
}

static int changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define OPEN_FUNCTION(name, at, DIR, ...)                                                                             \
    int name(__VA_ARGS__, ...) {                                                                                      \
        REAL(int, "openat64", int, const char *, int, mode_t);                                                        \
        va_list list;                                                                                                 \
        va_start(list, flags);                                                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;                                       \
        va_end(list);                                                                                                 \
        if (changes(flags) && strike_path(OPEN, DIR, path) == FAIL) return -1;                                        \
        return watch(real(DIR, path, flags, mode), flags, DIR, path);                                                 \
    }
OPEN_FUNCTION(open, , AT_FDCWD, const char *path, int flags)
OPEN_FUNCTION(open64, , AT_FDCWD, const char *path, int flags)
OPEN_FUNCTION(openat, , dir, int dir, const char *path, int flags)
OPEN_FUNCTION(openat64, , dir, int dir, const char *path, int flags)
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }
int creat(const char *path, mode_t mode) { return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

#define FOPEN_FUNCTION(name)                                                                                          \
    FILE *name(const char *path, const char *mode) {                                                                  \
        REAL(FILE *, #name, const char *, const char *);                                                              \
        int flags = mode[0] == 'r' && !strchr(mode, '+') ? O_RDONLY : O_RDWR;                                         \
        if (changes(flags) && strike_path(OPEN, AT_FDCWD, path) == FAIL) return NULL;                                 \
        FILE *file = real(path, mode);                                                                                \
        if (file) watch(fileno(file), flags, AT_FDCWD, path);                                                         \
        return file;                                                                                                  \
    }
FOPEN_FUNCTION(fopen)
FOPEN_FUNCTION(fopen64)

/* --- write --- */

#define WRITE_FUNCTION(name, parameters, types, arguments, halved)                                                    \
    ssize_t name parameters {                                                                                         \
        static ssize_t(*real) types;                                                                                  \
        if (!real) real = (ssize_t(*) types)dlsym(RTLD_NEXT, #name);                                                  \
        enum outcome outcome = strike_descriptor(WRITE, fd);                                                          \
        if (outcome == FAIL) return -1;                                                                               \
        return outcome == HALF ? real halved : real arguments;                                                        \
    }
#define HALVED (count > 1 ? count / 2 : count)
WRITE_FUNCTION(write, (int fd, const void *data, size_t count), (int, const void *, size_t), (fd, data, count),
               (fd, data, HALVED))
WRITE_FUNCTION(pwrite, (int fd, const void *data, size_t count, off_t at), (int, const void *, size_t, off_t),
               (fd, data, count, at), (fd, data, HALVED, at))
WRITE_FUNCTION(pwrite64, (int fd, const void *data, size_t count, off_t at), (int, const void *, size_t, off_t),
               (fd, data, count, at), (fd, data, HALVED, at))
WRITE_FUNCTION(writev, (int fd, const struct iovec *data, int count), (int, const struct iovec *, int),
               (fd, data, count), (fd, data, HALVED))
WRITE_FUNCTION(sendfile, (int fd, int from, off_t *at, size_t count), (int, int, off_t *, size_t),
               (fd, from, at, count), (fd, from, at, HALVED))
WRITE_FUNCTION(sendfile64, (int fd, int from, off_t *at, size_t count), (int, int, off_t *, size_t),
               (fd, from, at, count), (fd, from, at, HALVED))

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    enum outcome outcome = strike_descriptor(WRITE, fileno(file));
    return outcome == FAIL ? 0 : real(data, size, outcome == HALF ? HALVED : count, file);
}

/* --- fsync, truncate, close --- */

#define DESCRIPTOR_FUNCTION(kind, name, parameters, types, arguments)                                                 \
    int name parameters {                                                                                             \
        static int(*real) types;                                                                                      \
        if (!real) real = (int(*) types)dlsym(RTLD_NEXT, #name);                                                      \
        return strike_descriptor(kind, fd) == FAIL ? -1 : real arguments;                                             \
    }
/* Nothing is synchronized, because the machine does not crash, and thousands of runs would wait for the disk. */
int fsync(int fd) { return strike_descriptor(SYNC, fd) == FAIL ? -1 : 0; }
int fdatasync(int fd) { return strike_descriptor(SYNC, fd) == FAIL ? -1 : 0; }
DESCRIPTOR_FUNCTION(TRUNCATE, ftruncate, (int fd, off_t size), (int, off_t), (fd, size))
DESCRIPTOR_FUNCTION(TRUNCATE, ftruncate64, (int fd, off_t size), (int, off_t), (fd, size))
DESCRIPTOR_FUNCTION(TRUNCATE, fallocate, (int fd, int mode, off_t at, off_t size), (int, int, off_t, off_t),
                    (fd, mode, at, size))

int close(int fd) { /* the descriptor is closed even if the call fails, as on NFS */
    REAL(int, "close", int);
    enum outcome outcome = strike_descriptor(CLOSE, fd);
    int error = errno;
    if (fd >= 0 && fd < (int)sizeof watched) watched[fd] = 0;
    int result = real(fd);
    if (outcome != FAIL) return result;
    errno = error;
    return -1;
}

int fclose(FILE *file) {
    REAL(int, "fclose", FILE *);
    int fd = fileno(file);
    enum outcome outcome = strike_descriptor(CLOSE, fd);
    int error = errno;
    if (fd >= 0 && fd < (int)sizeof watched) watched[fd] = 0;
    int result = real(file);
    if (outcome != FAIL) return result;
    errno = error;
    return EOF;
}

/* --- paths --- */

#define PATH_FUNCTION(kind, name, DIR, parameters, types, arguments)                                                  \
    int name parameters {                                                                                             \
        static int(*real) types;                                                                                      \
        if (!real) real = (int(*) types)dlsym(RTLD_NEXT, #name);                                                      \
        return strike_path(kind, DIR, path) == FAIL ? -1 : real arguments;                                            \
    }
#define TWO const char *, const char *
PATH_FUNCTION(RENAME, rename, AT_FDCWD, (const char *from, const char *path), (TWO), (from, path))
PATH_FUNCTION(RENAME, renameat, dir, (int source, const char *from, int dir, const char *path),
              (int, const char *, int, const char *), (source, from, dir, path))
PATH_FUNCTION(RENAME, link, AT_FDCWD, (const char *from, const char *path), (TWO), (from, path))
PATH_FUNCTION(RENAME, linkat, dir, (int source, const char *from, int dir, const char *path, int flags),
              (int, const char *, int, const char *, int), (source, from, dir, path, flags))
PATH_FUNCTION(RENAME, symlink, AT_FDCWD, (const char *from, const char *path), (TWO), (from, path))
PATH_FUNCTION(MKDIR, mkdir, AT_FDCWD, (const char *path, mode_t mode), (const char *, mode_t), (path, mode))
PATH_FUNCTION(MKDIR, mkdirat, dir, (int dir, const char *path, mode_t mode), (int, const char *, mode_t),
              (dir, path, mode))
PATH_FUNCTION(TRUNCATE, truncate, AT_FDCWD, (const char *path, off_t size), (const char *, off_t), (path, size))
PATH_FUNCTION(REMOVE, unlink, AT_FDCWD, (const char *path), (const char *), (path))
PATH_FUNCTION(REMOVE, remove, AT_FDCWD, (const char *path), (const char *), (path))
PATH_FUNCTION(REMOVE, rmdir, AT_FDCWD, (const char *path), (const char *), (path))
PATH_FUNCTION(REMOVE, unlinkat, dir, (int dir, const char *path, int flags), (int, const char *, int),
              (dir, path, flags))

/* --- clock --- */

static double jump(void) {
    struct timespec now;
    if (!jump_s) return 0;
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real(CLOCK_MONOTONIC, &now);
    return now.tv_sec - started.tv_sec >= jump_after_s ? jump_s : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += (time_t)jump();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    REAL(int, "gettimeofday", struct timeval *, void *);
    int result = real(now, zone);
    if (!result) now->tv_sec += (time_t)jump();
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
