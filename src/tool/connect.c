/* Connecting to a queue that is served under a name. */
#include "tool/connect.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A server answers at once, unless it is stopped. */
#define CONNECT_MS 10000

bool forkq__tool_is_served(const char *text) {
  return text[0] == '/' || text[0] == '@' || strncmp(text, "./", 2) == 0 ||
         strncmp(text, "../", 3) == 0;
}

int forkq__tool_connect(forkq_queue_t **ret_queue, const char *text) {
  int r = forkq_queue_connect(ret_queue, text, CONNECT_MS, NULL);
  if (r == 0)
    return FORKQ__TOOL_GOES_ON;
  if (r == -ENOENT || r == -ECONNREFUSED) {
    forkq__tool_say("nobody serves %s", text);
    return FORKQ__TOOL_ABSENT;
  }
  return forkq__tool_say_error(r, "cannot have the queue that is served at %s", text);
}

int forkq__tool_served_inode(uint64_t *ret_inode, const char *text) {
  forkq_queue_t *queue;
  forkq_handover_t handover;
  struct stat memory = { 0 };
  int code = forkq__tool_connect(&queue, text);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  int r = forkq_queue_hand_over(queue, &handover);
  if (r == 0 && fstat(handover.fds[FORKQ_HANDOVER_FDS - 1], &memory) != 0)
    r = -errno;
  forkq_queue_destroy(queue);
  if (r < 0)
    return forkq__tool_say_error(r, "cannot look at the queue that is served at %s",
                                 text);
  *ret_inode = memory.st_ino;
  return FORKQ__TOOL_GOES_ON;
}
