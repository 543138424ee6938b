/*
 * A file layer that loses what was not synced: preloaded into a process, it writes down everything that the process does
 * to the files of one folder, in order, so that a test can build the folder as a disk would hold it had the power gone
 * at any moment. Nothing is really synced; that the process asked for it is written down.
 *
 * What goes to standard output is written down in the same order: there the process tells what it was promised.
 *
 * Each entry of the journal is a `struct entry` and the bytes that it counts. One lock is held from before an operation
 * until it is written down, so the journal has the order in which things happened. An operation that this layer does
 * not know, in a folder that it watches, ends the process. Linux with glibc, on little-endian 64-bit machines.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 4096

/* Names as in journal.rs. */
#define FOLDER_VARIABLE "POSTERN_AUDIT_TEST_DIR"
#define JOURNAL_VARIABLE "POSTERN_AUDIT_TEST_JOURNAL"

struct entry {
    uint32_t kind;
    int32_t descriptor;
    /* An offset, a length, or for an open whether it cuts the file to nothing. */
    uint64_t number;
    uint32_t first_bytes;
    uint32_t second_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;
/* Which descriptors lead to the folder or to a file in it. */
static char is_watched[DESCRIPTORS_MAX];

static void give_up(const char *why) {
    syscall(SYS_write, STDERR_FILENO, "lossy layer: ", 13);
    syscall(SYS_write, STDERR_FILENO, why, strlen(why));
    syscall(SYS_write, STDERR_FILENO, "\n", 1);
    abort();
}

static void write_down(struct entry entry, const void *first, const void *second) {
    if (journal < 0) {
        const char *path = getenv(JOURNAL_VARIABLE);
        if (path == NULL) {
            give_up("no journal is named");
        }
        journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        write_down((struct entry){.kind = 'S'}, NULL, NULL);
    }
    struct iovec parts[] = {
        {&entry, sizeof entry},
        {(void *)first, entry.first_bytes},
        {(void *)second, entry.second_bytes},
    };
    long bytes = sizeof entry + entry.first_bytes + entry.second_bytes;
    if (syscall(SYS_writev, journal, parts, 3) != bytes) {
        give_up("the journal cannot be written");
    }
}

/* The name of a file in the folder, an empty one for the folder itself, NULL for anything else. */
static const char *name_of(const char *path) {
    const char *folder = getenv(FOLDER_VARIABLE);
    size_t bytes = folder == NULL ? 0 : strlen(folder);
    if (bytes == 0 || strncmp(path, folder, bytes) != 0) {
        return NULL;
    }
    if (path[bytes] == '\0') {
        return path + bytes;
    }
    return path[bytes] == '/' ? path + bytes + 1 : NULL;
}

static int watches(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX && is_watched[descriptor];
}

static int open_any(int folder, const char *path, int flags, mode_t mode) {
    const char *name = name_of(path);
    if (name == NULL) {
        return syscall(SYS_openat, folder, path, flags, mode);
    }
    if (flags & O_APPEND) {
        give_up("a file of the log is opened to append");
    }
    pthread_mutex_lock(&lock);
    int descriptor = syscall(SYS_openat, folder, path, flags, mode);
    if (descriptor >= DESCRIPTORS_MAX) {
        give_up("too many open files");
    }
    if (descriptor >= 0) {
        is_watched[descriptor] = 1;
        struct entry entry = {'O', descriptor, (flags & O_TRUNC) != 0, strlen(name), 0};
        write_down(entry, name, NULL);
    }
    pthread_mutex_unlock(&lock);
    return descriptor;
}

/* The mode follows the flags only where a file may be made. */
#define OPEN_WITH_MODE(folder, path, flags)          \
    mode_t mode = 0;                                 \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {         \
        va_list rest;                                \
        va_start(rest, flags);                       \
        mode = va_arg(rest, mode_t);                 \
        va_end(rest);                                \
    }                                                \
    return open_any(folder, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN_WITH_MODE(AT_FDCWD, path, flags); }
int open64(const char *path, int flags, ...) { OPEN_WITH_MODE(AT_FDCWD, path, flags); }
int openat(int folder, const char *path, int flags, ...) { OPEN_WITH_MODE(folder, path, flags); }
int openat64(int folder, const char *path, int flags, ...) { OPEN_WITH_MODE(folder, path, flags); }

int close(int descriptor) {
    if (!watches(descriptor)) {
        return syscall(SYS_close, descriptor);
    }
    pthread_mutex_lock(&lock);
    write_down((struct entry){.kind = 'C', .descriptor = descriptor}, NULL, NULL);
    is_watched[descriptor] = 0;
    int done = syscall(SYS_close, descriptor);
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t write_at(int descriptor, const void *bytes, size_t count, off_t offset) {
    ssize_t written = syscall(SYS_pwrite64, descriptor, bytes, count, offset);
    if (written > 0) {
        write_down((struct entry){'W', descriptor, offset, written, 0}, bytes, NULL);
    }
    return written;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    if (!watches(descriptor)) {
        return syscall(SYS_pwrite64, descriptor, bytes, count, offset);
    }
    pthread_mutex_lock(&lock);
    ssize_t written = write_at(descriptor, bytes, count, offset);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    return pwrite64(descriptor, bytes, count, offset);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    if (descriptor != STDOUT_FILENO && !watches(descriptor)) {
        return syscall(SYS_write, descriptor, bytes, count);
    }
    pthread_mutex_lock(&lock);
    ssize_t written;
    if (watches(descriptor)) {
        off_t offset = lseek(descriptor, 0, SEEK_CUR);
        written = write_at(descriptor, bytes, count, offset);
        if (written > 0) {
            lseek(descriptor, written, SEEK_CUR);
        }
    } else {
        written = syscall(SYS_write, descriptor, bytes, count);
        if (written > 0) {
            write_down((struct entry){'P', descriptor, 0, written, 0}, bytes, NULL);
        }
    }
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    if (watches(descriptor)) {
        give_up("a file of the log is written in parts");
    }
    return syscall(SYS_writev, descriptor, parts, count);
}

int ftruncate64(int descriptor, off64_t bytes) {
    if (!watches(descriptor)) {
        return syscall(SYS_ftruncate, descriptor, bytes);
    }
    pthread_mutex_lock(&lock);
    int done = syscall(SYS_ftruncate, descriptor, bytes);
    if (done == 0) {
        write_down((struct entry){'T', descriptor, bytes, 0, 0}, NULL, NULL);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int descriptor, off_t bytes) { return ftruncate64(descriptor, bytes); }

static int sync_any(int descriptor, long call) {
    if (!watches(descriptor)) {
        return syscall(call, descriptor);
    }
    pthread_mutex_lock(&lock);
    write_down((struct entry){.kind = 'F', .descriptor = descriptor}, NULL, NULL);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int descriptor) { return sync_any(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return sync_any(descriptor, SYS_fdatasync); }

/* Renames a file (`R`), or gives it a second name (`L`). */
static int name_anew(uint32_t kind, const char *from, const char *to) {
    const char *first = name_of(from), *second = name_of(to);
    if ((first == NULL) != (second == NULL)) {
        give_up("a file moves into the folder, or out of it");
    }
    pthread_mutex_lock(&lock);
    int done = kind == 'R' ? syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)
                           : syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (done == 0 && first != NULL) {
        struct entry entry = {kind, -1, 0, strlen(first), strlen(second)};
        write_down(entry, first, second);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) { return name_anew('R', from, to); }
int link(const char *from, const char *to) { return name_anew('L', from, to); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    if (name_of(from) == NULL && name_of(to) == NULL) {
        return syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    }
    return name_anew('L', from, to);
}

int unlink(const char *path) {
    const char *name = name_of(path);
    pthread_mutex_lock(&lock);
    int done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (done == 0 && name != NULL) {
        write_down((struct entry){'U', -1, 0, strlen(name), 0}, name, NULL);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
