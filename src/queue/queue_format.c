/* Putting what a format says. */
#include "queue/queue_impl.h"

#include "codec/format.h"

struct call {
  const char *format;
  struct forkq__arguments args;
  int result;
};

static int pack(msgpack_packer *packer, void *arg) {
  struct call *call = arg;
  call->result = forkq__format_pack(packer, call->format, &call->args);
  return call->result;
}

int forkq_queue_vputf(forkq_queue_t *queue, int timeout_ms, const char *format,
                      va_list args) {
  struct call call = { .format = format, .result = FORKQ_EPACK };
  int r = forkq__format_check(format, FORKQ__PACKING, queue);
  if (r < 0)
    return r;
  va_copy(call.args.list, args);
  r = forkq_queue_put_with(queue, pack, &call, timeout_ms);
  va_end(call.args.list);
  if (r == FORKQ_ETOODEEP) /* with an object for o */
    return forkq__format_failed(
        r, &(struct forkq__format_place){ .format = format, .at = format });
  return r == FORKQ_EPACK ? call.result : r;
}

int forkq_queue_putf(forkq_queue_t *queue, int timeout_ms, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int r = forkq_queue_vputf(queue, timeout_ms, format, args);
  va_end(args);
  return r;
}
