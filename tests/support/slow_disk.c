/* Preloaded into a broker: a disk that takes its time.

   Each write to a regular file, and each fsync, first sleeps as many milliseconds as the file that
   SLOW_DISK names says at that moment: a 32-bit integer in the machine's byte order. Sockets are
   as fast as ever. See slow_disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile const int32_t *delay_ms;

__attribute__((constructor)) static void look(void) {
    const char *path = getenv("SLOW_DISK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *seen = mmap(NULL, sizeof *delay_ms, PROT_READ, MAP_SHARED, file, 0);
    if (seen != MAP_FAILED) delay_ms = seen;
    close(file);
}

/* Sleeps until the time is over or the disk is fast again. */
static void wait_for_disk(int file) {
    struct stat status;
    if (!delay_ms || *delay_ms <= 0 || fstat(file, &status) || !S_ISREG(status.st_mode)) return;
    struct timespec step = {0, 10 * 1000 * 1000};
    for (int32_t waited_ms = 0; waited_ms < *delay_ms; waited_ms += 10) nanosleep(&step, NULL);
}

#define SLOW(result, name, types, arguments)                       \
    result name types {                                            \
        static result(*next) types;                                \
        if (!next) next = (result(*) types)dlsym(RTLD_NEXT, #name); \
        wait_for_disk(file);                                       \
        return next arguments;                                     \
    }

SLOW(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
SLOW(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
SLOW(ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count))
SLOW(int, fsync, (int file), (file))
SLOW(int, fdatasync, (int file), (file))
