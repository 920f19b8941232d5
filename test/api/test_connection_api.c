/* Connections: what forkq/connection.h says about each function. */
#define _GNU_SOURCE
#include "connection_ends.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* Creation and end */

/* Valgrind has descriptors and a limit of its own, and does not keep to ours. */
static bool descriptors_are_valgrinds(void) {
  const char *preload = getenv("LD_PRELOAD");
  return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

START_TEST(pipe_descriptors_are_close_on_exec) {
  for (int duplex = 0; duplex <= 1; duplex++) {
    forkq_connection_t *x, *y;
    OK(forkq_pipe(&x, &y, duplex));
    ck_assert_int_eq(fcntl(forkq_connection_fileno(x), F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(forkq_connection_fileno(y), F_GETFD), FD_CLOEXEC);
    forkq_connection_destroy(x);
    forkq_connection_destroy(y);
  }
}
END_TEST

START_TEST(pipe_without_descriptors_left_fails) {
  if (descriptors_are_valgrinds())
    return;
  forkq_connection_t *x = NULL, *y = NULL;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  int next = dup(0);
  close(next);
  limit.rlim_cur = (rlim_t)next + 1;
  ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
  CODE(forkq_pipe(&x, &y, 0), -EMFILE);
  CODE(forkq_pipe(&x, &y, 1), -EMFILE);
  ck_assert_ptr_null(x);
  ck_assert_ptr_null(y);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}
END_TEST

START_TEST(open_takes_the_descriptor_only_on_success) {
  forkq_connection_t *connection = NULL;
  int fd = dup(forkq_connection_fileno(a));
  CODE(forkq_connection_open(NULL, fd, 1, 1), FORKQ_ENULL);
  CODE(forkq_connection_open(&connection, fd, 0, 0), -EINVAL);
  ck_assert_ptr_null(connection);
  ck_assert_int_ne(fcntl(fd, F_GETFD), -1);
  OK(forkq_connection_open(&connection, fd, 5, 0));
  ck_assert_int_eq(forkq_connection_fileno(connection), fd);
  ck_assert_int_eq(forkq_connection_readable(connection), 1);
  ck_assert_int_eq(forkq_connection_writable(connection), 0);
  forkq_connection_destroy(connection);
  ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

START_TEST(close_is_idempotent_and_final) {
  OK(forkq_connection_close(a));
  OK(forkq_connection_close(a));
  int fd;
  size_t size;
  CODE(send_nil(a), FORKQ_ECLOSED);
  CODE(send_text(a, "x"), FORKQ_ECLOSED);
  CODE(forkq_connection_send_packed(a, "\xc0", 1), FORKQ_ECLOSED);
  CODE(forkq_connection_recv_bytes(a, &item, FORKQ_ALL), FORKQ_ECLOSED);
  CODE(forkq_connection_recv_bytes_into(a, &fd, 1, 9, &size, NULL), FORKQ_ECLOSED);
  CODE(forkq_connection_poll(a, 0), FORKQ_ECLOSED);
  CODE(forkq_connection_fileno(a), FORKQ_ECLOSED);
  CODE(forkq_connection_send_fd(a, 0), FORKQ_ECLOSED);
  CODE(forkq_connection_recv_fd(a, &fd), FORKQ_ECLOSED);
  ck_assert_int_eq(forkq_connection_readable(a), 1);
  ck_assert_int_eq(forkq_connection_writable(a), 1);
  forkq_connection_destroy(NULL);
}
END_TEST

START_TEST(null_is_refused) {
  forkq_connection_t *none = NULL;
  size_t size;
  int fd;
  char byte;
  CODE(forkq_pipe(NULL, &none, 0), FORKQ_ENULL);
  CODE(forkq_pipe(&none, NULL, 0), FORKQ_ENULL);
  CODE(forkq_connection_send(a, NULL), FORKQ_ENULL);
  CODE(send_nil(none), FORKQ_ENULL);
  CODE(forkq_connection_send_packed(a, NULL, 1), FORKQ_ENULL);
  CODE(forkq_connection_send_packed(none, "\xc0", 1), FORKQ_ENULL);
  CODE(forkq_connection_send_with(a, NULL, NULL), FORKQ_ENULL);
  CODE(forkq_connection_send_bytes(a, NULL, 1, 0, 0), FORKQ_ENULL);
  CODE(send_text(none, "x"), FORKQ_ENULL);
  CODE(forkq_connection_recv(a, NULL), FORKQ_ENULL);
  CODE(forkq_connection_recv(none, &item), FORKQ_ENULL);
  CODE(forkq_connection_recv_bytes_into(a, NULL, 1, 0, &size, &item), FORKQ_ENULL);
  CODE(forkq_connection_recv_bytes_into(a, &byte, 1, 0, NULL, &item), FORKQ_ENULL);
  CODE(forkq_connection_recv_bytes_into(none, &byte, 1, 0, &size, &item), FORKQ_ENULL);
  CODE(forkq_connection_poll(none, 0), FORKQ_ENULL);
  CODE(forkq_connection_fileno(none), FORKQ_ENULL);
  CODE(forkq_connection_readable(none), FORKQ_ENULL);
  CODE(forkq_connection_writable(none), FORKQ_ENULL);
  CODE(forkq_connection_closed(none), FORKQ_ENULL);
  CODE(forkq_connection_close(none), FORKQ_ENULL);
  CODE(forkq_connection_send_fd(none, 0), FORKQ_ENULL);
  CODE(forkq_connection_recv_fd(none, &fd), FORKQ_ENULL);
  CODE(forkq_connection_recv_fd(a, NULL), FORKQ_ENULL);
  ck_assert_int_eq(forkq_connection_poll(b, 0), 0);
}
END_TEST

/* Objects */

START_TEST(send_packed_takes_one_object_only) {
  static const char nested[] = "\x92\x01\xa2hi";
  OK(forkq_connection_send_packed(b, nested, 5));
  CODE(forkq_connection_send_packed(b, nested, 4), FORKQ_EBADOBJECT);
  CODE(forkq_connection_send_packed(b, nested, 0), FORKQ_EBADOBJECT);
  CODE(forkq_connection_send_packed(b, "\xc0\xc0", 2), FORKQ_EBADOBJECT);
  CODE(forkq_connection_send_packed(b, nested, (size_t)FORKQ_MESSAGE_MAX + 1),
       FORKQ_ETOOBIG);
  char deep[FORKQ_DEPTH_MAX + 2];
  memset(deep, 0x91, sizeof deep);
  deep[FORKQ_DEPTH_MAX] = deep[FORKQ_DEPTH_MAX + 1] = '\xc0';
  OK(forkq_connection_send_packed(b, deep, FORKQ_DEPTH_MAX + 1));
  deep[FORKQ_DEPTH_MAX] = '\x91';
  CODE(forkq_connection_send_packed(b, deep, FORKQ_DEPTH_MAX + 2), FORKQ_ETOODEEP);

  OK(forkq_connection_recv(a, &item));
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_ARRAY);
  ck_assert_uint_eq(item.size, 5);
  OK(forkq_connection_recv(a, &item));
  ck_assert_uint_eq(item.size, FORKQ_DEPTH_MAX + 1);
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
}
END_TEST

START_TEST(send_refuses_what_could_not_be_received) {
  msgpack_object lists[FORKQ_DEPTH_MAX + 1];
  for (int i = 0; i <= FORKQ_DEPTH_MAX; i++)
    lists[i] = (msgpack_object){ .type = MSGPACK_OBJECT_ARRAY,
                                 .via = { .array = { .size = i < FORKQ_DEPTH_MAX,
                                                     .ptr = &lists[i] + 1 } } };
  CODE(forkq_connection_send(b, &lists[0]), FORKQ_ETOODEEP);
  msgpack_object unknown = { .type = (msgpack_object_type)99 };
  CODE(forkq_connection_send(b, &unknown), FORKQ_EBADOBJECT);
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  OK(forkq_connection_send(b, &lists[1]));
  OK(forkq_connection_recv(a, &item));
}
END_TEST

/* A string of that many bytes, all of which are said to be at one place. */
static int send_huge_string(uint32_t size) {
  static const char bytes[1] = "x";
  msgpack_object object = { .type = MSGPACK_OBJECT_BIN,
                            .via = { .bin = { .size = size, .ptr = bytes } } };
  return forkq_connection_send(b, &object);
}

START_TEST(send_refuses_what_is_too_big_without_reading_it) {
  CODE(send_huge_string(FORKQ_MESSAGE_MAX), FORKQ_ETOOBIG);
  CODE(send_huge_string(FORKQ_MESSAGE_MAX - 4), FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
  OK(send_int(b, 5));
  RECEIVES_INT(a, 5);
}
END_TEST

struct packing {
  int objects;
  int result;
};

static int pack_ints(msgpack_packer *packer, void *arg) {
  const struct packing *packing = arg;
  for (int i = 0; i < packing->objects; i++)
    msgpack_pack_int(packer, 7);
  return packing->result;
}

static int pack_and_use(msgpack_packer *packer, void *arg) {
  (void)arg;
  CODE(send_int(b, 1), FORKQ_EPACKING);
  CODE(send_text(b, "x"), FORKQ_EPACKING);
  CODE(forkq_connection_send_packed(b, "\xc0", 1), FORKQ_EPACKING);
  CODE(forkq_connection_send_fd(b, 0), FORKQ_EPACKING);
  CODE(forkq_connection_close(b), FORKQ_EPACKING);
  return msgpack_pack_int(packer, 8);
}

START_TEST(send_with_packs_one_object) {
  OK(forkq_connection_send_with(b, pack_ints, &(struct packing){ 1, 0 }));
  CODE(forkq_connection_send_with(b, pack_ints, &(struct packing){ 0, 0 }),
       FORKQ_EBADOBJECT);
  CODE(forkq_connection_send_with(b, pack_ints, &(struct packing){ 2, 0 }),
       FORKQ_EBADOBJECT);
  CODE(forkq_connection_send_with(b, pack_ints, &(struct packing){ 1, 1 }), FORKQ_EPACK);
  OK(forkq_connection_send_with(b, pack_and_use, NULL));
  RECEIVES_INT(a, 7);
  RECEIVES_INT(a, 8);
  ck_assert_int_eq(forkq_connection_poll(a, 0), 0);
}
END_TEST

START_TEST(recv_of_no_object_gives_the_bytes) {
  OK(send_text(b, "two objects"));
  OK(send_text(b, ""));
  char deep[FORKQ_DEPTH_MAX + 2];
  memset(deep, 0x91, sizeof deep);
  deep[FORKQ_DEPTH_MAX + 1] = '\xc0';
  OK(forkq_connection_send_bytes(b, deep, sizeof deep, 0, FORKQ_ALL));
  OK(send_int(b, 3));

  CODE(forkq_connection_recv(a, &item), FORKQ_EBADOBJECT);
  ck_assert_int_eq(item.object.type, MSGPACK_OBJECT_NIL);
  ck_assert(is_text("two objects"));
  CODE(forkq_connection_recv(a, &item), FORKQ_EBADOBJECT);
  ck_assert(is_text(""));
  CODE(forkq_connection_recv(a, &item), FORKQ_ETOODEEP);
  ck_assert_uint_eq(item.size, sizeof deep);
  RECEIVES_INT(a, 3);
}
END_TEST

/* Bytes */

START_TEST(recv_bytes_into_checks_its_range) {
  char buffer[8] = "";
  size_t size = 99;
  OK(send_text(b, "12345"));
  CODE(forkq_connection_recv_bytes_into(a, buffer, 8, 9, &size, &item), FORKQ_ERANGE);
  CODE(forkq_connection_recv_bytes_into(a, buffer, 8, FORKQ_ALL, &size, &item),
       FORKQ_ERANGE);
  ck_assert_uint_eq(size, 99);
  OK(forkq_connection_recv_bytes_into(a, buffer, 8, 3, &size, &item));
  ck_assert_uint_eq(size, 5);
  ck_assert_mem_eq(buffer,
                   "\0\0\0"
                   "12345",
                   8);

  OK(send_text(b, ""));
  OK(forkq_connection_recv_bytes_into(a, NULL, 0, 0, &size, &item));
  ck_assert_uint_eq(size, 0);
  OK(send_text(b, ""));
  OK(forkq_connection_recv_bytes_into(a, buffer, 8, 8, &size, &item));
  ck_assert_uint_eq(size, 0);
}
END_TEST

START_TEST(too_short_a_buffer_takes_the_message_all_the_same) {
  char buffer[4] = "....";
  size_t size = 99;
  OK(send_text(b, "12345"));
  OK(send_text(b, "dropped"));
  OK(send_text(b, "next"));
  CODE(forkq_connection_recv_bytes_into(a, buffer, 4, 0, &size, &item), FORKQ_ETOOSHORT);
  ck_assert(is_text("12345"));
  CODE(forkq_connection_recv_bytes_into(a, buffer, 4, 1, &size, NULL), FORKQ_ETOOSHORT);
  ck_assert_uint_eq(size, 99);
  ck_assert_mem_eq(buffer, "....", 4);
  OK(forkq_connection_recv_bytes_into(a, buffer, 4, 0, &size, &item));
  ck_assert_mem_eq(buffer, "next", 4);
  ck_assert_uint_eq(item.size, 0);
}
END_TEST

START_TEST(maxlength_makes_a_reader_closed) {
  OK(send_text(b, "12345"));
  OK(send_text(b, "123456"));
  OK(forkq_connection_recv_bytes(a, &item, 5));
  CODE(forkq_connection_recv_bytes(a, &item, 5), FORKQ_ETOOBIG);
  ck_assert_uint_eq(item.size, 0);
  ck_assert_int_eq(forkq_connection_closed(a), 1);
  CODE(forkq_connection_recv_bytes(a, &item, 5), FORKQ_ECLOSED);
}
END_TEST

START_TEST(maxlength_makes_a_duplex_connection_write_only) {
  OK(send_text(b, ""));
  OK(send_text(b, "1"));
  OK(forkq_connection_recv_bytes(a, &item, 0));
  CODE(forkq_connection_recv_bytes(a, &item, 0), FORKQ_ETOOBIG);
  ck_assert_int_eq(forkq_connection_closed(a), 0);
  ck_assert_int_eq(forkq_connection_readable(a), 0);
  CODE(forkq_connection_recv_bytes(a, &item, 5), FORKQ_EWRITEONLY);
  CODE(forkq_connection_poll(a, 0), FORKQ_EWRITEONLY);
  OK(send_text(a, "still sends"));
  RECEIVES(b, "still sends");
}
END_TEST

/* One direction per thread. */
static void *send_numbers(void *arg) {
  (void)arg;
  for (uint64_t i = 0; i < 5000; i++)
    OK(send_int(a, i));
  return NULL;
}

static void echo_objects(void *arg) {
  (void)arg;
  forkq_connection_close(a);
  for (;;) {
    int r = forkq_connection_recv(b, &item);
    if (r == FORKQ_EEOF)
      return;
    CHILD_MUST(r == 0 && forkq_connection_send(b, &item.object) == 0);
  }
}

START_TEST(one_thread_sends_while_another_receives) {
  pid_t pid = support_fork(echo_objects, NULL);
  close_b();
  pthread_t sender;
  ck_assert_int_eq(pthread_create(&sender, NULL, send_numbers, NULL), 0);
  for (uint64_t i = 0; i < 5000; i++)
    RECEIVES_INT(a, i);
  pthread_join(sender, NULL);
  close_a();
  reap(pid);
}
END_TEST

/* Descriptors */

START_TEST(fds_need_a_unix_socket) {
  forkq_connection_t *reader, *writer;
  OK(forkq_pipe(&reader, &writer, 0));
  int fd;
  CODE(forkq_connection_send_fd(writer, 0), -ENOTSOCK);
  CODE(forkq_connection_send_fd(reader, 0), FORKQ_EREADONLY);
  CODE(forkq_connection_recv_fd(reader, &fd), -ENOTSOCK);
  CODE(forkq_connection_recv_fd(writer, &fd), FORKQ_EWRITEONLY);
  forkq_connection_destroy(reader);
  forkq_connection_destroy(writer);

  int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ge(tcp, 0);
  OK(forkq_connection_open(&reader, tcp, 1, 1));
  CODE(forkq_connection_send_fd(reader, 0), -EAFNOSUPPORT);
  forkq_connection_destroy(reader);

  CODE(forkq_connection_send_fd(a, -1), -EBADF);
  CODE(forkq_connection_send_fd(a, 44977608), -EBADF);
  ck_assert_int_eq(forkq_connection_poll(b, 0), 0);
  close_a();
  CODE(forkq_connection_recv_fd(b, &fd), FORKQ_EEOF);
  CODE(forkq_connection_send_fd(b, 0), -EPIPE);
}
END_TEST

/* Sends `count` descriptors beside one byte. */
static void send_fds(char byte, int count) {
  union {
    struct cmsghdr align;
    char space[CMSG_SPACE(16 * sizeof(int))];
  } control = { .space = { 0 } };
  struct iovec part = { &byte, 1 };
  struct msghdr message = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int)) };
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  memset(CMSG_DATA(header), 0, (size_t)count * sizeof(int));
  ck_assert_int_eq(sendmsg(forkq_connection_fileno(a), &message, 0), 1);
}

START_TEST(surplus_fds_are_refused_and_closed) {
  const int before = support_open_fds();
  int fd;
  for (int count = 1; count <= 16; count++) {
    send_fds((char)count, count);
    if (count == 1) {
      OK(forkq_connection_recv_fd(b, &fd));
      close(fd);
    } else {
      CODE(forkq_connection_recv_fd(b, &fd), FORKQ_EBADFRAME);
    }
  }
  send_fds(1, 2);
  CODE(forkq_connection_recv_fd(b, &fd), FORKQ_EBADFRAME);
  send_fds(2, 1);
  CODE(forkq_connection_recv_fd(b, &fd), FORKQ_EBADFRAME);
  ck_assert_int_eq(support_open_fds(), before);
}
END_TEST

START_TEST(fd_with_credentials_beside_it) {
  int on = 1, fd;
  setsockopt(forkq_connection_fileno(b), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  OK(forkq_connection_send_fd(a, 0));
  OK(forkq_connection_recv_fd(b, &fd));
  close(fd);
}
END_TEST

START_TEST(fd_without_room_for_it) {
  if (descriptors_are_valgrinds())
    return;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t soft = limit.rlim_cur;
  int fd = dup(0);
  close(fd);
  OK(forkq_connection_send_fd(a, 0));
  OK(forkq_connection_send_fd(a, 0));
  limit.rlim_cur = (rlim_t)fd;
  setrlimit(RLIMIT_NOFILE, &limit);
  CODE(forkq_connection_recv_fd(b, &fd), -EMFILE);
  limit.rlim_cur = soft;
  setrlimit(RLIMIT_NOFILE, &limit);
  OK(forkq_connection_recv_fd(b, &fd));
  close(fd);
}
END_TEST

/* Fills the stream, so that send_fd has to wait. */
static void send_more_than_fits(void *arg) {
  (void)arg;
  forkq_connection_close(b);
  for (int i = 0; i < 2000; i++)
    CHILD_MUST(forkq_connection_send_fd(a, 0) == 0);
}

START_TEST(fds_over_sockets_that_do_not_block) {
  set_nonblocking(a);
  set_nonblocking(b);
  pid_t pid = support_fork(send_more_than_fits, NULL);
  close_a();
  int fd;
  for (int i = 0; i < 2000; i++) {
    OK(forkq_connection_recv_fd(b, &fd));
    close(fd);
  }
  CODE(forkq_connection_recv_fd(b, &fd), FORKQ_EEOF);
  reap(pid);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("connection functions");
  TCase *tc = add_case(suite, "life", setup_duplex);
  tcase_add_test(tc, pipe_descriptors_are_close_on_exec);
  tcase_add_test(tc, pipe_without_descriptors_left_fails);
  tcase_add_test(tc, open_takes_the_descriptor_only_on_success);
  tcase_add_test(tc, close_is_idempotent_and_final);
  tcase_add_test(tc, null_is_refused);

  tc = add_case(suite, "objects", setup_one_way);
  tcase_add_test(tc, send_packed_takes_one_object_only);
  tcase_add_test(tc, send_refuses_what_could_not_be_received);
  tcase_add_test(tc, send_refuses_what_is_too_big_without_reading_it);
  tcase_add_test(tc, send_with_packs_one_object);
  tcase_add_test(tc, recv_of_no_object_gives_the_bytes);

  tc = add_case(suite, "bytes", setup_one_way);
  tcase_add_test(tc, recv_bytes_into_checks_its_range);
  tcase_add_test(tc, too_short_a_buffer_takes_the_message_all_the_same);
  tcase_add_test(tc, maxlength_makes_a_reader_closed);

  tc = add_case(suite, "duplex", setup_duplex);
  tcase_add_test(tc, maxlength_makes_a_duplex_connection_write_only);
  tcase_add_test(tc, one_thread_sends_while_another_receives);

  tc = add_case(suite, "descriptors", setup_duplex);
  tcase_add_test(tc, fds_need_a_unix_socket);
  tcase_add_test(tc, surplus_fds_are_refused_and_closed);
  tcase_add_test(tc, fd_with_credentials_beside_it);
  tcase_add_test(tc, fd_without_room_for_it);
  tcase_add_test(tc, fds_over_sockets_that_do_not_block);
  return support_main(suite);
}
