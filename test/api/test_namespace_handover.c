/* A queue that is handed over into another PID namespace: by its descriptors, through a socket, and
 * to another program. */
#define _GNU_SOURCE
#include "namespace_helpers.h"

#include <forkq/handover.h>
#include <forkq/serve.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

START_TEST(attach_in_another_namespace_is_refused) {
  put_one_that_arrives();
  write_down(before);
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, attach_refused, NULL), 0);
  ck_assert(is_as_it_was());
  ck_assert_int_eq(get(0), 7);
  ck_assert_int_eq(support_wait(support_fork(attach_well, NULL)), 0);
}
END_TEST

static void receive_refused(void *socket) {
  forkq_queue_t *received = NULL;
  forkq_queue_destroy(queue);
  int open_before = support_open_fds();
  CHILD_MUST(forkq_queue_receive(&received, *(int *)socket, NULL) == FORKQ_ENAMESPACE);
  CHILD_MUST(received == NULL && support_open_fds() == open_before);
}

START_TEST(receive_in_another_namespace_is_refused) {
  int sockets[2];
  ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  for (int way = 0; way < WAYS; way++) {
    ck_assert_int_eq(forkq_queue_send(queue, sockets[0]), 0);
    ck_assert_int_eq(run_apart(way, receive_refused, &sockets[1]), 0);
  }
  close(sockets[0]);
  close(sockets[1]);
}
END_TEST

static void connect_refused(void *name) {
  forkq_queue_t *connected = NULL;
  forkq_queue_destroy(queue);
  int open_before = support_open_fds();
  CHILD_MUST(forkq_queue_connect(&connected, name, PATIENCE_MS, NULL) ==
             FORKQ_ENAMESPACE);
  CHILD_MUST(connected == NULL && support_open_fds() == open_before);
}

START_TEST(connect_in_another_namespace_is_refused) {
  forkq_server_t *server;
  char name[64];
  snprintf(name, sizeof name, "@forkq-namespace-%d", (int)getpid());
  ck_assert_int_eq(forkq_queue_serve(&server, queue, name, NULL), 0);
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, connect_refused, name), 0);
  forkq_server_destroy(server);
}
END_TEST

/* The same program, started anew: what attach says there, and a put and a get. */
static int other_program(const char *text) {
  forkq_queue_t *attached;
  int r = forkq_queue_attach(&attached, text, NULL);
  if (r < 0)
    return r == FORKQ_ENAMESPACE ? SKIPPED : 1;
  r = put_int(attached, 1, 0) == 0 && get_int(attached, PATIENCE_MS) == 1 ? 0 : 2;
  forkq_queue_destroy(attached);
  return r;
}

static void exec_other(void *arg) {
  (void)arg;
  forkq_handover_t handover;
  CHILD_MUST(forkq_queue_hand_over(queue, &handover) == 0);
  CHILD_MUST(forkq_handover_keep(&handover) == 0);
  execl("/proc/self/exe", "other", handover.text, NULL);
  _exit(127);
}

START_TEST(a_program_has_the_queue_in_its_namespace_only) {
  ck_assert_int_eq(support_wait(support_fork(exec_other, NULL)), 0);
  for (int way = 0; way < WAYS; way++)
    ck_assert_int_eq(run_apart(way, exec_other, NULL), SKIPPED);
}
END_TEST

static Suite *namespace_handover_suite(void) {
  Suite *suite = suite_create("namespace_handover");
  TCase *tcase = add_case(suite);
  tcase_add_test(tcase, attach_in_another_namespace_is_refused);
  tcase_add_test(tcase, receive_in_another_namespace_is_refused);
  tcase_add_test(tcase, connect_in_another_namespace_is_refused);
  tcase_add_test(tcase, a_program_has_the_queue_in_its_namespace_only);
  return suite;
}

int main(int argc, char **argv) {
  if (argc == 2)
    return other_program(argv[1]);
  if (!has_the_right())
    return SKIPPED;
  return support_main(namespace_handover_suite());
}
