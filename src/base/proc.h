/* Other processes, as /proc tells of them (proc(5)).
 *
 * A process may end between two calls, and another may get its number. So whoever reads two things of one
 * process looks whether they fit together. No function here is a cancellation point. */
#ifndef FORKQ_PROC_H
#define FORKQ_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Paths in /proc are short. */
#define FORKQ__PROC_PATH 64

/* Calls `fn` with each number that is a name in the directory, until it returns a negative errno. Returns
 * that, 0, or the negative errno of opening the directory. */
typedef int (*forkq__proc_fn)(int number, void *arg);
int forkq__proc_each(const char *path, forkq__proc_fn fn, void *arg);

/* open opens a file to be read; it never waits. read reads the beginning of a file, and link the text of a
 * symbolic link; both end it with a NUL, and return its length. All return a negative errno otherwise. */
int forkq__proc_open(const char *path);
int forkq__proc_read(const char *path, char *text, size_t size);
int forkq__proc_link(const char *path, char *text, size_t size);

/* The identity of the file that a link leads to (forkq__os_identity), and its inode. 0 or a negative errno. */
int forkq__proc_identity(const char *path, uint64_t *ret_identity, uint64_t *ret_inode);

/* Whether the descriptor that the link stands for can be read from, or written to: FORKQ__READS,
 * FORKQ__WRITES or both, as in os.h; or a negative errno. */
int forkq__proc_access(const char *path);

/* The state of a process, one letter, or 0: there is none. of_thread: the process of a thread, or 0. */
char forkq__proc_state(pid_t pid);
pid_t forkq__proc_of_thread(pid_t tid);

/* Reads the memory of a process. 0 or a negative errno. */
int forkq__proc_memory(pid_t pid, uint64_t address, void *data, size_t size);

#endif
