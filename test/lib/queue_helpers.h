/* What the tests of queues have in common: the queue, and numbers and large messages through
 * it. */
#ifndef FORKQ_TEST_QUEUE_HELPERS_H
#define FORKQ_TEST_QUEUE_HELPERS_H

#include "support.h"

#include <forkq.h>

extern forkq_queue_t *queue;

/* Descriptors that were open before there was a queue, which set_up has to count; queue_tear_down
 * destroys it, and then it is as many again. */
extern int fds_before;
void queue_tear_down(void);

/* Until all that this process has put is in the pipe, and its feeder has nothing in hand. */
void until_sent(forkq_queue_t *from);

/* A number; get returns it, or the error. Through another queue, or through that of the test. */
/* Opens `queue` as a simple queue. Puts by the helpers then go through it as such. */
extern forkq_simple_queue_t *simple_queue;
void create_simple(void);

int put_object(const msgpack_object *object, int timeout_ms);
int put_packed(const void *data, size_t size, int timeout_ms);
int put_packing(forkq_pack_fn pack, void *arg, int timeout_ms);

int put_int(forkq_queue_t *to, int64_t value, int timeout_ms);
int64_t get_int(forkq_queue_t *from, int timeout_ms);
int put(int64_t value, int timeout_ms);
int64_t get(int timeout_ms);

/* Nothing stays of calls that are over, in whatever way: no lock, no count. Nobody is in a call;
 * or, of the puts, in a put. */
void assert_nothing_held(void);
void assert_puts_hold_nothing(void);

/* The same, and the queue, which is empty, works: for this thread, for another one, and for a child
 * that is forked now. */
void assert_whole(void);

/* A bin of `size` bytes with its header, which is 5 of them; every one is known. */
void make_bin(char *data, size_t size);
int put_bin(size_t size, int timeout_ms);
bool is_bin(const forkq_item_t *item, size_t size);
void assert_get_bin(size_t size);

/* No piece of this process's arena is in use. First it finds those that are free again, as a feeder does
 * that has nothing to do. */
void assert_no_piece_is_used(void);

/* A child lives until its parent is gone, sends what the parent has left, and ends. */
_Noreturn void send_when_parent_is_gone(pid_t parent);

#endif
