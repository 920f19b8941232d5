/* What a worker does with the tasks that it got, and what it hears of tasks of the dead. */
#ifndef FORKQ_CRASH_TASKS_H
#define FORKQ_CRASH_TASKS_H

#include "worker.h"

/* Says that tasks are done, which the process got in one get: itself, or in a child. say_done: of one. by_item:
 * which one; else that one is said to be done that the process got before its others. */
void tasks_finish(struct worker *worker, const struct task *tasks, size_t count);
void tasks_say_done(struct worker *worker, const struct task *task, bool by_item);

/* Asks for the tasks of processes that ended, where they are told. */
void tasks_hear(struct worker *worker);

#endif
