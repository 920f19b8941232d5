/* Signals that end a wait of the main thread.
 *
 * CPython's handler in C only notes that a signal came, and the handler in Python runs once the main thread
 * is back in the interpreter. A call of the library goes on after a signal, and the signal may come on another
 * thread. So while the main thread waits, CPython is told to write each signal to a pipe
 * (signal.set_wakeup_fd), and a thread that reads the pipe interrupts the call. A descriptor that the program
 * has set itself gets what was written, and is set again after the wait. Threads other than the main one run
 * no handlers, and so wait without all this. */
#ifndef FORKQ_PYTHON_SIGNALS_H
#define FORKQ_PYTHON_SIGNALS_H

#include "python/python.h"

/* From now on a signal calls interrupt(target), on another thread, until forkq__py_signals_leave. On another
 * thread than the main one it does nothing. */
int forkq__py_signals_watch(void (*interrupt)(void *target), void *target);

/* The end of the watch. It keeps an exception that is set. Afterwards `interrupt` is not called any more. */
void forkq__py_signals_leave(void);

/* Whether the main thread, which calls, has no watch any more: a handler that it ran has waited itself, or has
 * forked this process. */
bool forkq__py_signals_ended(void);

/* The calling thread is the main one: at the import, and in a forked child. */
void forkq__py_signals_begin(unsigned long main_thread);
void forkq__py_signals_forked(void);

#endif
