/* Pages that are not 4 KiB: a pipe has room for fewer packets than a queue has thought, and then it
 * knows better. */
#define _GNU_SOURCE
#include "memory_helpers.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What the library takes for a page's size, but for os.c itself. */
static int64_t page_size;

int64_t __real_forkq__os_page_size(void);
int64_t __wrap_forkq__os_page_size(void);

int64_t __wrap_forkq__os_page_size(void) {
  return page_size > 0 ? page_size : __real_forkq__os_page_size();
}

static int beginnings; /* that readers dropped */

static void count_beginnings(forkq_log_level_t level, const char *message, void *arg) {
  (void)level;
  (void)arg;
  beginnings += strstr(message, "dropped the beginning") != NULL;
}

START_TEST(a_packet_takes_a_page_of_the_pipe) {
  page_size = 4096;
  ck_assert_uint_eq(forkq__channel_packets_in(128 * 4096), 128);
  page_size = 65536;
  ck_assert_uint_eq(forkq__channel_packets_in(128 * 65536), 128);
  ck_assert_uint_eq(forkq__channel_packets_in(65536), 1);
  ck_assert_uint_eq(forkq__channel_packets_in(4096), 0);
}
END_TEST

static bool feeder_sleeps(void) {
  ck_assert_int_eq(forkq__sender_lock(&queue->feeder.sender, FORKQ__FOREVER), 0);
  bool sleeps = queue->feeder.state == FORKQ__FEEDER_ASLEEP;
  forkq__sender_unlock(&queue->feeder.sender);
  return sleeps;
}

static int64_t capacity(void) {
  return fcntl(queue->channel.write_fd, F_GETPIPE_SZ);
}

#define PLACES 16 /* of the pipe, in packets */

/* Only while the feeder sleeps a put writes itself. */
static void pass_large(uint32_t packets) {
  size_t size = (size_t)packets * FORKQ__FRAME_MAX - 1;
  ck_assert_int_eq(put(1, 0), 0);
  ck_assert_int_eq(get(PATIENCE_MS), 1);
  while (!feeder_sleeps())
    usleep(100);
  ck_assert_int_eq(put_bin(size, 0), 0);
  assert_get_bin(size);
}

/* As the library would think it has on pages sixteen times as small. Then it knows better. */
START_TEST(a_large_message_is_begun_in_vain_only_once) {
  for (uint32_t first = PLACES - 1; first <= PLACES + 3; first++) {
    beginnings = 0;
    page_size = __real_forkq__os_page_size() / 16;
    ck_assert_int_eq(forkq_queue_create(&queue, 0), 0);
    support_keep_to_pipe(queue);
    ck_assert_int_gt(fcntl(queue->channel.write_fd, F_SETPIPE_SZ,
                           (int)(PLACES * __real_forkq__os_page_size())),
                     0);
    ck_assert_int_gt(queue->channel.pipe_packets, PLACES + 3);
    for (int i = 0; i < 5; i++)
      pass_large(first);
    for (uint32_t packets = PLACES - 1; packets <= PLACES + 3; packets++)
      pass_large(packets);
    ck_assert_int_eq(beginnings, 1);
    ck_assert_int_eq(capacity(), PLACES * __real_forkq__os_page_size());
    forkq_queue_destroy(queue);
  }
}
END_TEST

int main(void) {
  forkq_log_set(count_beginnings, NULL);
  Suite *suite = suite_create("memory_pages");
  TCase *alone = add_case(suite, "queues of its own");
  tcase_add_test(alone, a_packet_takes_a_page_of_the_pipe);
  tcase_add_test(alone, a_large_message_is_begun_in_vain_only_once);
  return support_main(suite);
}
