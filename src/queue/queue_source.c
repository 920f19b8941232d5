/* The message of a put, and packing it: an object, bytes, or what a packing function of the program
 * writes. */
#define _GNU_SOURCE
#include "queue/queue_impl.h"

#include "codec/serializer.h"

#include <pthread.h>
#include <unwind.h>

/* A packing function of the program runs on this thread, and writes into `draft`. The function may
 * use no queue meanwhile.
 *
 * A function that returns, is cancelled or throws a C++ exception clears forkq__packing. A function
 * that leaves by longjmp does not; the next call on the thread notices that (forkq__still_packing).
 *
 * That call may be wrong: it does not find a function beyond a frame without unwind tables, or one
 * that waits on another stack of the program. So each function has a number, and a function that no
 * longer has the draft writes no more. */
_Thread_local bool forkq__packing FORKQ__TLS;
static _Thread_local struct forkq__outbox draft FORKQ__TLS;
static _Thread_local unsigned drafted_for FORKQ__TLS; /* number of the last function */

static pthread_key_t draft_key;
static pthread_once_t draft_once = PTHREAD_ONCE_INIT;
static bool has_draft_key;

static void free_draft(void *outbox) {
  forkq__outbox_fini(outbox);
}

static void make_draft_key(void) {
  has_draft_key = pthread_key_create(&draft_key, free_draft) == 0;
}

/* A packet stays with the thread from draft to draft, until the thread ends. */
struct forkq__outbox *forkq__source_draft(void) {
  if (draft.spare == NULL) {
    pthread_once(&draft_once, make_draft_key);
    if (has_draft_key)
      (void)pthread_setspecific(draft_key, &draft);
  }
  return &draft;
}

void forkq__source_drop_draft(void) {
  forkq__outbox_check_fork(&draft);
  forkq__outbox_fini(&draft);
}

/* A function that forks may go on packing in both processes. So what it has packed moves into packets,
 * which both have. A handler that has interrupted an append changes nothing. */
void forkq__source_before_fork(void) {
  if (forkq__packing && !draft.in_step)
    forkq__outbox_leave_loan(&draft);
}

/* A loan is left only if the fork ran no handlers, or came in the middle of a step: the piece is the
 * parent's, which may have gone on with it. The message of a call that a handler has interrupted is the
 * parent's, too; the child does not return into the call. */
void forkq__source_forked(void) {
  forkq__outbox_lose_loan(&draft, FORKQ_ECLOSED);
  if (!forkq__packing && (draft.head != NULL || draft.open.first != NULL))
    forkq__outbox_init(&draft); /* it may be half changed */
}

/* For a function that does not return. */
static void end_packing(void *number) {
  if (*(const unsigned *)number != drafted_for)
    return;
  forkq__packing = false;
  forkq__source_drop_draft();
}

static int write_to_draft(void *number, const char *data, size_t size) {
  if (*(const unsigned *)number != drafted_for)
    return -1;
  return forkq__outbox_append(&draft, data, size);
}

static __attribute__((noinline)) int run_function(const struct forkq__source *source) {
  unsigned number = ++drafted_for;
  msgpack_packer packer;
  int r;
  msgpack_packer_init(&packer, &number, write_to_draft);
  forkq__packing = true;
  pthread_cleanup_push(end_packing, &number);
  r = source->pack(&packer, source->arg);
  pthread_cleanup_pop(0);
  forkq__outbox_check_fork(&draft);
  if (number != drafted_for)
    return FORKQ_EPACKING;
  forkq__packing = false;
  return r != 0 ? FORKQ_EPACK : 0;
}

static _Unwind_Reason_Code is_run_function(struct _Unwind_Context *frame, void *arg) {
  bool *found = arg;
  *found = _Unwind_GetRegionStart(frame) == (uintptr_t)run_function;
  return *found ? _URC_NORMAL_STOP : _URC_NO_REASON;
}

/* Whether a call of run_function is still on the stack. If not, this ends the packing. */
bool forkq__still_packing(void) {
  bool found = false;
  _Unwind_Backtrace(is_run_function, &found);
  if (!found) {
    end_packing(&drafted_for);
    drafted_for++;
  }
  return found;
}

int forkq__source_write(const struct forkq__source *source, void *sink,
                        msgpack_packer_write write) {
  if (source->pack != NULL)
    return run_function(source);
  if (source->data != NULL)
    return write(sink, source->data, source->size);
  msgpack_packer packer;
  msgpack_packer_init(&packer, sink, write);
  return forkq__pack(&packer, source->object);
}
