/* The threads that a process has for a queue of a server: the beat, and the one that watches. They wait as all calls on
 * the queue do, until it is closed. */
#include "redis/redis_impl.h"

int forkq__redis_poll(void *arg, struct pollfd *fd, int64_t deadline) {
  struct forkq__redis *redis = arg;
  struct pollfd fds[2] = { { .fd = redis->wake_fd, .events = POLLIN } };
  if (fd != NULL)
    fds[1] = *fd;
  int r = forkq__os_poll(fds, fd != NULL ? 2 : 1, deadline);
  if (fd != NULL)
    fd->revents = fds[1].revents;
  return r > 0 && atomic_load(&redis->stopping) ? FORKQ_ECLOSED : r;
}

/* As the server's thread of a queue with a name: server.c. */
int forkq__redis_begin_thread(struct forkq__redis *redis, uv_thread_t *thread,
                              void (*run)(void *redis)) {
  char mask[FORKQ__SIGNAL_MASK_SIZE];
  int state;
  forkq__os_signals_block(mask);
  int r = uv_thread_create(thread, run, redis);
  forkq__os_signals_restore(mask);
  if (r < 0)
    return r == UV_ENOMEM ? r : FORKQ_ENOTHREAD;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  uv_sem_wait(&redis->begun);
  pthread_setcancelstate(state, NULL);
  return 0;
}

void forkq__redis_end_thread(uv_thread_t *thread) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  uv_thread_join(thread);
  pthread_setcancelstate(state, NULL);
}
