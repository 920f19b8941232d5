/* Connecting to a served queue. */
#include "queue/server_impl.h"

#include "base/os.h"
#include "base/times.h"
#include "base/versioned.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* How often the client looks for the rest of an answer of which a part has come. */
#define FIRST_LOOK_MS 1
#define LAST_LOOK_MS 20

static int read_options(forkq_connect_options_t *all,
                        const forkq_connect_options_t *options) {
  *all = (forkq_connect_options_t)FORKQ_CONNECT_OPTIONS_INIT;
  if (options == NULL)
    return forkq__queue_adopt_allowed(NULL);
  if (!forkq__is_version(options->size, sizeof *all, sizeof *all))
    return FORKQ_ERANGE;
  memcpy(all, options, options->size);
  return forkq__queue_adopt_allowed(all->queue);
}

/* A path in a directory to which others may write, or an abstract name, may be anybody's. */
static int check_server(int socket, const forkq_connect_options_t *options) {
  forkq_peer_t peer;
  int r = forkq__os_peer(socket, &peer);
  if (r < 0)
    return r;
  bool is_right = options->allow != NULL
                      ? options->allow(&peer, options->arg) != 0
                      : peer.user == forkq__os_user() || peer.user == 0;
  return is_right ? 0 : -EACCES;
}

/* A server that refuses may have closed the connection already. Its answer can still be read. */
static int ask(int socket) {
  char text[FORKQ__GREETING_SIZE] = "";
  struct iovec part = { text, sizeof text };
  snprintf(text, sizeof text, FORKQ__GREETING, FORKQ__SEGMENT_LAYOUT);
  ssize_t n = forkq__os_socket_write_soon(socket, &part, 1);
  return n >= 0 || n == -EPIPE || n == -ECONNRESET ? 0 : (int)n;
}

/* What the beginning of an answer says: 0, it may be a handover; or an error. */
static int judge(const char *text) {
  static const struct {
    const char *reason;
    int error;
  } reasons[] = { { FORKQ__SAYS_REFUSED, -EACCES },
                  { FORKQ__SAYS_CLOSED, FORKQ_ECLOSED },
                  { FORKQ__SAYS_BUSY, -ETOOMANYREFS },
                  { FORKQ__SAYS_VERSION, FORKQ_EVERSION } };
  unsigned layout;
  int begin = 0;
  if (strncmp(text, "forkq:", strnlen(text, strlen("forkq:"))) != 0)
    return FORKQ_EHANDOVER;
  if (sscanf(text, FORKQ__GREETING "%n", &layout, &begin) != 1 || begin == 0)
    return 0;
  if (layout != FORKQ__SEGMENT_LAYOUT)
    return FORKQ_EVERSION;
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
    if (strcmp(text + begin, reasons[i].reason) == 0)
      return reasons[i].error;
  return 0;
}

/* Waits until a whole answer has come, and looks at it without taking it: after that, a receive does not
 * wait. A server that is not forkq's may send a part, and never the rest. */
static int await_answer(int socket, int64_t deadline) {
  char text[FORKQ_HANDOVER_TEXT + 1] = "";
  struct pollfd answer = { .fd = socket, .events = POLLIN };
  for (int ms = 0;;) {
    int r = forkq__os_poll(&answer, 1, deadline);
    if (r <= 0)
      return r < 0 ? r : FORKQ_TIMEDOUT;
    ssize_t n = forkq__os_socket_peek(socket, text, sizeof text - 1);
    if (n == -ECONNRESET)
      return FORKQ_EEOF; /* it has not even read what this client said */
    if (n < 0 && n != -EAGAIN)
      return (int)n;
    r = n > 0 ? judge(text) : 0;
    if (r < 0 || n == 0)
      return r < 0 ? r : FORKQ_EEOF;
    if (n == sizeof text - 1)
      return 0;
    if (forkq__os_now() >= deadline)
      return FORKQ_TIMEDOUT;
    if ((answer.revents & POLLHUP) != 0)
      return FORKQ_EHANDOVER; /* it does not send the rest */
    ms = forkq__back_off(ms, FIRST_LOOK_MS, LAST_LOOK_MS);
    forkq__os_poll(NULL, 0, forkq__os_deadline_within(deadline, ms));
  }
}

static int open_from(forkq_queue_t **ret_queue, int socket,
                     const struct forkq__address *address,
                     const forkq_connect_options_t *options, int64_t deadline) {
  int r = forkq__os_connect(socket, address, deadline);
  if (r == 0)
    r = check_server(socket, options);
  if (r == 0)
    r = ask(socket);
  if (r == 0)
    r = await_answer(socket, deadline);
  return r < 0 ? r : forkq_queue_receive(ret_queue, socket, options->queue);
}

int forkq_queue_connect(forkq_queue_t **ret_queue, const char *path, int timeout_ms,
                        const forkq_connect_options_t *options) {
  forkq_connect_options_t all;
  struct forkq__address address;
  if (ret_queue == NULL || path == NULL)
    return FORKQ_ENULL;
  if (timeout_ms < -1)
    return FORKQ_ETIMEOUT;
  int r = read_options(&all, options);
  if (r == 0)
    r = forkq__os_address(path, &address);
  if (r < 0)
    return r;
  int64_t deadline = forkq__os_deadline(timeout_ms);
  int socket = forkq__os_socket();
  if (socket < 0)
    return socket;
  r = open_from(ret_queue, socket, &address, &all, deadline);
  forkq__os_close(socket);
  return r;
}
