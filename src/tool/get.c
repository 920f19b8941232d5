/* forkq get, drain and peek: items of a queue on the standard output; and shutdown. */
#include "tool/attach.h"
#include "tool/commands.h"
#include "tool/items.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- get and drain ------------------------------------------------------------------------ */

struct get {
  forkq_queue_t *queue;
  const char *name;
  int timeout_ms;
  int64_t count; /* items to get; 0: as many as there are */
  bool discard;
  enum forkq__tool_form form;
};

/* The task is done when the item was written. */
static int deliver(const struct get *get, const forkq_item_t *item) {
  if (!get->discard)
    forkq__tool_print_item(&item->object, item->data, item->size, get->form);
  if (fflush(stdout) != 0 || ferror(stdout)) /* or else it failed before the flush */
    return forkq__tool_say("cannot write the output");
  int r = forkq_queue_task_done(get->queue);
  return r == 0 || r == FORKQ_ENOTJOINABLE
             ? FORKQ__TOOL_GOES_ON
             : forkq__tool_say_error(r, "queue %s", get->name);
}

/* Gets up to `count` items. *ret_got is how many there were. */
static int get_items(const struct get *get, int64_t *ret_got) {
  forkq_item_t item = FORKQ_ITEM_INIT;
  int code = FORKQ__TOOL_GOES_ON, r = 0;
  while (code == FORKQ__TOOL_GOES_ON && (get->count == 0 || *ret_got < get->count)) {
    r = forkq_queue_get(get->queue, &item, get->timeout_ms);
    if (r < 0)
      break;
    ++*ret_got;
    code = deliver(get, &item);
  }
  forkq_item_destroy(&item);
  if (r >= 0)
    return code;
  bool is_end =
      get->count == 0 && (r == FORKQ_EMPTY || r == FORKQ_ESHUTDOWN || r == FORKQ_EALONE);
  return is_end ? FORKQ__TOOL_GOES_ON : forkq__tool_say_error(r, "queue %s", get->name);
}

/* A program that only gets learns when nobody is left that could put. */
static int get_only(const struct get *get, int64_t *ret_got) {
  int r = forkq_queue_close_put(get->queue);
  return r < 0 ? forkq__tool_say_error(r, "queue %s", get->name)
               : get_items(get, ret_got);
}

static int get_all(struct get *get) {
  int64_t got = 0;
  int code = forkq__tool_attach(&get->queue, get->name);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  code = get_only(get, &got);
  if (get->discard)
    printf("%" PRId64 "\n", got);
  forkq_queue_destroy(get->queue);
  return code == FORKQ__TOOL_GOES_ON ? FORKQ__TOOL_OK : code;
}

static int run_get(const struct forkq__tool_command *self, int argc, char **argv) {
  struct get get = { .timeout_ms = -1, .count = 1 };
  bool text = false, msgpack = false;
  const struct forkq__tool_option options[] = {
    { .name = "count", .argument = "N", .help = "so many items", .number = &get.count },
    { .name = "text", .help = "strings without quotes", .flag = &text },
    { .name = "msgpack", .help = "the bytes as they are", .flag = &msgpack },
    { .name = "timeout",
      .argument = "SECONDS",
      .help = "for each item; none: wait as long as it takes",
      .timeout_ms = &get.timeout_ms },
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc != 1 || get.count == 0 || !forkq__tool_form_of(text, msgpack, &get.form))
    return forkq__tool_misuse(self, argc != 1        ? "from which queue?"
                                    : get.count == 0 ? "--count is at least 1"
                                                     : "--text or --msgpack: only one");
  get.name = argv[0];
  return get_all(&get);
}

static int run_drain(const struct forkq__tool_command *self, int argc, char **argv) {
  struct get get = { .timeout_ms = 0 };
  bool text = false, msgpack = false;
  const struct forkq__tool_option options[] = {
    { .name = "discard", .help = "print only how many there were", .flag = &get.discard },
    { .name = "text", .help = "strings without quotes", .flag = &text },
    { .name = "msgpack", .help = "the bytes as they are", .flag = &msgpack },
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc != 1 || !forkq__tool_form_of(text, msgpack, &get.form))
    return forkq__tool_misuse(self, argc != 1 ? "which queue?"
                                              : "--text or --msgpack: only one");
  get.name = argv[0];
  return get_all(&get);
}

const struct forkq__tool_command forkq__tool_get = {
  "get", "QUEUE", "get an item, or several, and print each on a line", run_get
};

const struct forkq__tool_command forkq__tool_drain = {
  "drain", "QUEUE", "get and print all items that are there", run_drain
};

/* ---- peek --------------------------------------------------------------------------------- */

struct peek {
  enum forkq__tool_form form;
  int64_t left;
};

static int print_peeked(const char *data, size_t size, void *arg) {
  struct peek *peek = arg;
  size_t at = 0;
  msgpack_unpacked unpacked;
  msgpack_unpacked_init(&unpacked);
  if (msgpack_unpack_next(&unpacked, data, size, &at) == MSGPACK_UNPACK_SUCCESS)
    forkq__tool_print_item(&unpacked.data, data, size, peek->form);
  msgpack_unpacked_destroy(&unpacked);
  return --peek->left == 0;
}

static int peek_at(const char *name, struct peek *peek) {
  forkq_inspect_t *inspect;
  const forkq_inspect_queue_t *queue;
  int code = forkq__tool_find(&inspect, &queue, name);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  code = FORKQ__TOOL_OK;
  int r = forkq_inspect_peek(queue, print_peeked, peek);
  if (r < 0)
    code = forkq__tool_say_error(r, "queue %s", name);
  else if (queue->unsent_items > 0 && peek->left != 0)
    forkq__tool_say("%" PRIu64 " items more are not sent yet", queue->unsent_items);
  forkq_inspect_destroy(inspect);
  return code;
}

static int run_peek(const struct forkq__tool_command *self, int argc, char **argv) {
  struct peek peek = { .left = 0 };
  bool text = false, msgpack = false;
  const struct forkq__tool_option options[] = {
    { .name = "count", .argument = "N", .help = "at most so many", .number = &peek.left },
    { .name = "text", .help = "strings without quotes", .flag = &text },
    { .name = "msgpack", .help = "the bytes as they are", .flag = &msgpack },
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc != 1 || !forkq__tool_form_of(text, msgpack, &peek.form))
    return forkq__tool_misuse(self, argc != 1 ? "which queue?"
                                              : "--text or --msgpack: only one");
  return peek_at(argv[0], &peek);
}

const struct forkq__tool_command forkq__tool_peek = {
  "peek", "QUEUE", "print the items that were sent, and take none", run_peek
};

/* ---- shutdown ----------------------------------------------------------------------------- */

static int run_shutdown(const struct forkq__tool_command *self, int argc, char **argv) {
  bool immediate = false;
  const struct forkq__tool_option options[] = {
    { .name = "immediate", .help = "drop the items that are left", .flag = &immediate },
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc != 1)
    return forkq__tool_misuse(self, "which queue?");
  forkq_queue_t *queue;
  code = forkq__tool_attach(&queue, argv[0]);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  int r = forkq_queue_shutdown(queue, immediate);
  forkq_queue_destroy(queue);
  return r == 0 ? FORKQ__TOOL_OK : forkq__tool_say_error(r, "queue %s", argv[0]);
}

const struct forkq__tool_command forkq__tool_shutdown = {
  "shutdown", "QUEUE", "no more puts; what is left can still be got", run_shutdown
};
