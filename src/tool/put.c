/* forkq put: items from arguments or the standard input into a queue. */
#include "tool/attach.h"
#include "tool/commands.h"
#include "tool/items.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct put {
  forkq_queue_t *queue;
  const char *name; /* as the user calls the queue */
  int timeout_ms;
  enum forkq__tool_form form;
  int64_t count; /* items that were put */
};

static int put_packed(struct put *put, const char *data, size_t size) {
  int r = forkq_queue_put_packed(put->queue, data, size, put->timeout_ms);
  if (r == FORKQ_EBADOBJECT || r == FORKQ_ETOODEEP || r == FORKQ_ETOOBIG) {
    (void)forkq__tool_say_error(r, "item %" PRId64, put->count + 1);
    return FORKQ__TOOL_USAGE;
  }
  if (r < 0)
    return forkq__tool_say_error(r, "queue %s, after %" PRId64 " items", put->name,
                                 put->count);
  put->count++;
  return FORKQ__TOOL_GOES_ON;
}

static int put_json(struct put *put, const char *text, size_t length) {
  json_error_t error;
  json_t *value = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
  if (value == NULL) {
    forkq__tool_say("item %" PRId64 " is not JSON: %s", put->count + 1, error.text);
    return FORKQ__TOOL_USAGE;
  }
  msgpack_sbuffer buffer;
  msgpack_packer packer;
  msgpack_sbuffer_init(&buffer);
  msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
  int code;
  if (forkq__tool_pack_json(&packer, value)) {
    code = put_packed(put, buffer.data, buffer.size);
  } else {
    forkq__tool_say("item %" PRId64 " has a form with \"$\" that is not known",
                    put->count + 1);
    code = FORKQ__TOOL_USAGE;
  }
  msgpack_sbuffer_destroy(&buffer);
  json_decref(value);
  return code;
}

static int put_text(struct put *put, const char *text, size_t length) {
  msgpack_sbuffer buffer;
  msgpack_packer packer;
  msgpack_sbuffer_init(&buffer);
  msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
  msgpack_pack_str_with_body(&packer, text, length);
  int code = put_packed(put, buffer.data, buffer.size);
  msgpack_sbuffer_destroy(&buffer);
  return code;
}

static int put_item(struct put *put, const char *text, size_t length) {
  return put->form == FORKQ__TOOL_AS_TEXT ? put_text(put, text, length)
                                          : put_json(put, text, length);
}

/* ---- the standard input ------------------------------------------------------------------- */

static int say_unreadable(int error) {
  return forkq__tool_say_error(-error, "cannot read the standard input");
}

/* Each line is an item; empty ones are not. */
static int put_lines(struct put *put) {
  char *line = NULL;
  size_t room = 0;
  ssize_t length;
  int code = FORKQ__TOOL_GOES_ON;
  while (code == FORKQ__TOOL_GOES_ON && (length = getline(&line, &room, stdin)) > 0) {
    if (line[length - 1] == '\n')
      length--;
    if (length > 0)
      code = put_item(put, line, (size_t)length);
  }
  if (code == FORKQ__TOOL_GOES_ON && !feof(stdin)) /* or no memory for a line */
    code = say_unreadable(errno);
  free(line);
  return code;
}

/* Reads all into *data, which the caller frees. Returns 0 or an errno. */
static int read_all(char **data, size_t *size) {
  size_t n;
  do {
    const size_t step = 65536;
    char *more = realloc(*data, *size + step);
    if (more == NULL)
      return ENOMEM;
    *data = more;
    n = fread(more + *size, 1, step, stdin);
    *size += n;
  } while (n > 0);
  return ferror(stdin) ? errno : 0;
}

/* Objects of msgpack, one after the other. */
static int put_objects(struct put *put, const char *data, size_t size) {
  int code = FORKQ__TOOL_GOES_ON;
  size_t begin = 0;
  while (begin < size && code == FORKQ__TOOL_GOES_ON) {
    size_t end = begin;
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    msgpack_unpack_return r = msgpack_unpack_next(&unpacked, data, size, &end);
    msgpack_unpacked_destroy(&unpacked);
    if (r != MSGPACK_UNPACK_SUCCESS && r != MSGPACK_UNPACK_EXTRA_BYTES) {
      forkq__tool_say("item %" PRId64 " is not msgpack", put->count + 1);
      return FORKQ__TOOL_USAGE;
    }
    code = put_packed(put, data + begin, end - begin);
    begin = end;
  }
  return code;
}

static int put_input(struct put *put, bool lines) {
  if (lines)
    return put_lines(put);
  char *data = NULL;
  size_t size = 0;
  int code, error = read_all(&data, &size);
  if (error != 0)
    code = say_unreadable(error);
  else if (put->form == FORKQ__TOOL_AS_MSGPACK)
    code = put_objects(put, data, size);
  else
    code = put_item(put, data, size);
  free(data);
  return code;
}

/* ---- the end ------------------------------------------------------------------------------ */

/* What was put must be sent before this process ends, and what cannot be is lost. */
static int send_all(struct put *put, int code) {
  uint64_t unsent = 0;
  int r = forkq_queue_flush(put->queue, put->timeout_ms, &unsent);
  if (r >= 0 && unsent == 0)
    return code;
  (void)forkq_queue_cancel_join_thread(put->queue);
  (void)forkq__tool_say_error(r < 0 ? r : FORKQ_ECLOSED,
                              "queue %s: the last %" PRIu64 " of %" PRId64
                              " items could not be sent, and are not put",
                              put->name, unsent, put->count);
  return code != FORKQ__TOOL_GOES_ON ? code : FORKQ__TOOL_TIMEOUT;
}

static int put_all(struct put *put, int argc, char **argv, bool lines) {
  int code = forkq__tool_attach(&put->queue, put->name);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  for (int i = 0; i < argc && code == FORKQ__TOOL_GOES_ON; i++)
    code = put_item(put, argv[i], strlen(argv[i]));
  if (argc == 0)
    code = put_input(put, lines);
  if (put->count > 0)
    code = send_all(put, code);
  forkq_queue_destroy(put->queue);
  return code == FORKQ__TOOL_GOES_ON ? FORKQ__TOOL_OK : code;
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  struct put put = { .timeout_ms = -1 };
  bool lines = false, text = false, msgpack = false;
  const struct forkq__tool_option options[] = {
    { .name = "lines", .help = "each line of the input is an item", .flag = &lines },
    { .name = "text", .help = "items are strings without quotes", .flag = &text },
    { .name = "msgpack", .help = "the input is msgpack", .flag = &msgpack },
    { .name = "timeout",
      .argument = "SECONDS",
      .help = "for each item; none: wait as long as it takes",
      .timeout_ms = &put.timeout_ms },
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc < 1)
    return forkq__tool_misuse(self, "into which queue?");
  if (!forkq__tool_form_of(text, msgpack, &put.form) ||
      (argc > 1 && (lines || msgpack)) || (lines && msgpack))
    return forkq__tool_misuse(self, "items as arguments, --lines or --msgpack: only one");
  put.name = argv[0];
  return put_all(&put, argc - 1, argv + 1, lines);
}

const struct forkq__tool_command forkq__tool_put = {
  "put", "QUEUE [ITEM...]", "put items, which are JSON, or what is on the standard input",
  run
};
