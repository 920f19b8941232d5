/* forkq/connection.h: pipes, and the connections at their ends.
 *
 * The counterpart of multiprocessing.Pipe and multiprocessing.connection.Connection. A
 * connection sends and receives whole messages over a byte stream: objects packed with
 * msgpack, or plain bytes. The bytes on the stream are exactly those of CPython's
 * Connection. So the other end may be CPython's, and exchange bytes through send_bytes
 * and recv_bytes. (Its send and recv use pickle.)
 *
 * Objects and plain bytes
 *
 *   A message does not say which of the two it is. An object that was sent is received as an object, and
 *   plain bytes as plain bytes. A struct is sent as plain bytes, and received into another one:
 *
 *     forkq_connection_send_bytes(connection, &s, sizeof s, 0, FORKQ_ALL);
 *     forkq_connection_recv_bytes_into(connection, &t, sizeof t, 0, &size, NULL);
 *
 * Format
 *
 *   A message is its length as a signed 32-bit big-endian number, then its bytes. A
 *   message above 0x7fffffff bytes has the long form: -1, the length as an unsigned
 *   64-bit big-endian number, then the bytes. A receiver accepts the long form for any
 *   length.
 *
 * When a process is killed
 *
 *   The stream belongs to the kernel, and nothing else is shared. If the peer died in the
 *   middle of a send, the receiver gets the complete messages, then FORKQ_ETORN, then
 *   FORKQ_EEOF. As in CPython, nothing separates several writers or several readers of
 *   one stream: their messages mix. Use a queue for that.
 *
 * Hostile peers
 *
 *   A hostile peer can make a receive wait that has seen the start of a message. It can
 *   make the receiver use memory in proportion to the bytes that it really sends. It can
 *   do nothing else: forkq does not allocate for a length before the bytes arrive.
 *
 * Threads
 *
 *   A connection has no lock. One thread may send while another one receives. Two sends,
 *   two receives, or a close and any other call must not overlap. poll, recv_fd and
 *   forkq_wait count as receives; send_fd counts as a send.
 *
 * fork
 *
 *   After a fork, parent and child both have the connection. Close it in each process
 *   that does not use it: end of file arrives only when the last copy of the other end is
 *   closed. Any thread may fork at any time. If another thread was using the connection
 *   at that moment, the child can only destroy it.
 *
 * exec
 *
 *   The descriptors of forkq_pipe are close-on-exec. To pass a connection to another
 *   program, duplicate its descriptor (forkq_connection_fileno) in the child to another
 *   number, with dup2 or posix_spawn_file_actions_adddup2. The program calls
 *   forkq_connection_open with that number.
 *
 * Blocking
 *
 *   Sends and receives wait without limit, whether or not the descriptor is O_NONBLOCK.
 *   Only poll and forkq_wait have a timeout. "Ready" means that the start of a message,
 *   or end of file, has arrived. The receive may still wait for the rest of the message.
 *
 * Cancellation
 *
 *   A cancelled thread (pthread_cancel(3)) ends in a send, a receive, poll, send_fd,
 *   recv_fd or forkq_wait: at the start of the call, or while the call waits for the
 *   first byte of a message or for room for it. A receive has then taken nothing. A send
 *   has written nothing or, in rare cases, the whole message. The connection stays
 *   usable. Once a part of a message has been transferred, the call completes the
 *   message, and the thread ends at its next cancellation point. No other function here
 *   is a cancellation point. A thread with asynchronous cancellation
 *   (PTHREAD_CANCEL_ASYNCHRONOUS) must not call forkq.
 *
 * Signals
 *
 *   A call that a signal handler interrupts continues. A write without a reader returns
 *   -EPIPE and never raises SIGPIPE, whatever the program does with that signal.
 *
 * Common errors
 *
 *   Functions that list "the send errors" can return these. Nothing was sent, and the
 *   connection is as usable as before:
 *   FORKQ_ENULL      a required argument is NULL
 *   FORKQ_ECLOSED    the connection is closed
 *   FORKQ_EREADONLY  the connection does not send
 *   FORKQ_EPACKING   a packing function of a send on this connection made the call
 *
 *   "The stream errors" of a send:
 *   -EPIPE           nobody can read any more
 *   -ECONNRESET      the other end was closed with messages unread
 *   other            another negative errno of write(2)
 *   If a part of the message was written before such an error, the message cannot be
 *   completed, and nothing may follow it. Every later send then fails with the same
 *   error. Receiving is not affected.
 *
 *   "The receive errors". The connection is as usable as before:
 *   FORKQ_ENULL       a required argument is NULL
 *   FORKQ_ECLOSED     the connection is closed
 *   FORKQ_EWRITEONLY  the connection does not receive
 *   FORKQ_EEOF        the other end is closed, and everything was received
 *   FORKQ_ETORN       the stream ended inside a message: in its length, between length
 *                     and bytes, or in the bytes. The part that arrived is dropped. The
 *                     next receive returns FORKQ_EEOF.
 *   -ENOMEM           there is no memory. The message is not lost: the next receive, of
 *                     any kind, continues with it.
 *   -ECONNRESET       the other end was closed with messages unread
 *   other             another negative errno of read(2), before the first byte of a
 *                     message
 *
 *   "The fatal errors" of a receive. The start of the next message is unknown after them.
 *   A read-only connection is then closed, and a duplex one becomes write-only (as in
 *   CPython after a bad length):
 *   FORKQ_ETOOBIG    the message is longer than allowed
 *   FORKQ_EBADFRAME  the length is below -1
 *   other            a negative errno of read(2), or any other, in the middle of a
 *                    message */
#ifndef FORKQ_CONNECTION_H
#define FORKQ_CONNECTION_H

#include <forkq/base.h>
#include <forkq/item.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_connection forkq_connection_t;

/* As a size: all bytes after the offset. As a maxlength: any length. */
#define FORKQ_ALL SIZE_MAX

/* Creates two connected connections.
 *
 * `duplex` nonzero: a pair of Unix stream sockets; both ends send and receive. Zero: a
 * pipe; *ret_a only receives what *ret_b sends. The caller owns both, and destroys each
 * with forkq_connection_destroy in every process that has it. Each uses one descriptor.
 *
 * Returns: 0. After a failure nothing is left behind.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `ret_a` or `ret_b` is NULL
 *   -ENOMEM      there is no memory
 *   -EMFILE      the process has no descriptors left
 *   -ENFILE      the system has no descriptors left
 * Python: multiprocessing.Pipe(duplex), where duplex is the default. */
FORKQ_API FORKQ_MUST_CHECK int forkq_pipe(forkq_connection_t **ret_a,
                                          forkq_connection_t **ret_b, int duplex);

/* Makes a connection from a descriptor of any origin that carries bytes in order, such as
 * a pipe or a socket. `readable` and `writable` say how to use it.
 *
 * On success the connection owns `fd`; on failure the caller keeps it. Its flags
 * (O_NONBLOCK, close-on-exec) do not change.
 *
 * Returns: 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `ret_connection` is NULL
 *   -EBADF       `fd` is negative or not open
 *   -EINVAL      neither `readable` nor `writable` is set
 *   -ENOMEM      there is no memory
 * Python: multiprocessing.connection.Connection(handle, readable, writable), which
 *   notices at the first use that the descriptor is not open. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_open(forkq_connection_t **ret_connection,
                                                     int fd, int readable, int writable);

/* Sends one object. The connection keeps nothing of it, except up to 64 KiB of memory for
 * packing.
 *
 * Returns: 0 when the kernel has the whole message.
 * Blocks: while the stream is full, without limit.
 * Errors: the send errors, the stream errors, and, with nothing sent:
 *   FORKQ_ETOODEEP    the object is nested deeper than FORKQ_DEPTH_MAX
 *   FORKQ_ETOOBIG     the message is larger than FORKQ_MESSAGE_MAX
 *   FORKQ_EBADOBJECT  the object has a type that msgpack does not have
 *   -ENOMEM           there is no memory
 * Python: Connection.send(obj). There, the next send follows a partial message, and the
 *   peer misreads both. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send(forkq_connection_t *connection,
                                                     const msgpack_object *object);

/* Sends `size` bytes that are exactly one msgpack object. The call validates them without
 * allocating.
 *
 * Returns, Blocks, Errors: as forkq_connection_send, and:
 *   FORKQ_EBADOBJECT  the bytes are not exactly one msgpack object
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int
forkq_connection_send_packed(forkq_connection_t *connection, const void *data,
                             size_t size);

/* Sends the object that `pack` writes (forkq/item.h), called with `arg`. `pack` must not
 * send on this connection or close it.
 *
 * `pack` may throw a C++ exception, or its thread may end in it. Then nothing is sent,
 * and the connection is as before. If `pack` leaves by longjmp, nothing is sent either,
 * but the connection stays in the packing state (FORKQ_EPACKING) until the same thread
 * sends on it or closes it. That call must come from a function no deeper in the stack
 * than the one that was left, and on the thread's original stack.
 *
 * Returns, Blocks, Errors: as forkq_connection_send, and:
 *   FORKQ_EPACK       `pack` returned nonzero
 *   FORKQ_EBADOBJECT  `pack` did not write exactly one object
 * Python: none. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send_with(forkq_connection_t *connection,
                                                          forkq_pack_fn pack, void *arg);

/* Sends plain bytes as one message: `size` bytes at `offset` in a buffer of `length`
 * bytes. `size` FORKQ_ALL means all bytes after `offset`. An empty message is allowed;
 * `data` may be NULL if `length` is 0. The only limit is PTRDIFF_MAX, the size of the largest
 * object of a program: above 0x7fffffff bytes the call writes the long form. It does not
 * allocate.
 *
 * Returns: 0 when the kernel has the whole message.
 * Blocks: while the stream is full, without limit.
 * Errors: the send errors, the stream errors, and:
 *   FORKQ_ERANGE   `offset` or `size` exceeds the buffer; nothing is sent
 *   FORKQ_ETOOBIG  `size` is above PTRDIFF_MAX; nothing is sent
 * Python: Connection.send_bytes(buf, offset, size). */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send_bytes(forkq_connection_t *connection,
                                                           const void *data,
                                                           size_t length, size_t offset,
                                                           size_t size);

/* Receives one object: unpacked in item->object, and its bytes in item->data.
 *
 * Returns: 0.
 * Blocks: until the whole message has arrived, without limit.
 * Errors: the receive errors, the fatal errors (the limit is FORKQ_MESSAGE_MAX), and,
 * with the message received, its bytes in item->data, and the connection as usable as
 * before:
 *   FORKQ_EBADOBJECT  the message is not exactly one msgpack object
 *   FORKQ_ETOODEEP    the object is nested deeper than FORKQ_DEPTH_MAX
 *   -ENOMEM           only the unpacked object did not fit in memory
 * Python: Connection.recv(). There, end of file between length and bytes is EOFError,
 *   like a clean end, and a negative length is an empty message. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_recv(forkq_connection_t *connection,
                                                     forkq_item_t *item);

/* Receives one message as plain bytes: item->data (never NULL on success) and item->size.
 * item->object is nil.
 *
 * Returns: 0.
 * Blocks: until the whole message has arrived, without limit.
 * Errors: the receive errors, and the fatal errors:
 *   FORKQ_ETOOBIG  the message is longer than `maxlength`, or than the address space.
 *                  With FORKQ_ALL there is no other limit.
 * Python: Connection.recv_bytes(maxlength). */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_recv_bytes(forkq_connection_t *connection,
                                                           forkq_item_t *item,
                                                           size_t maxlength);

/* Receives one message as plain bytes into the caller's buffer of `length` bytes, at
 * `offset`. *ret_size is set to the message's size. A message that fits is read directly
 * into the buffer, without allocating.
 *
 * A message that does not fit is received completely into `item`, or dropped if `item` is
 * NULL. The buffer and *ret_size do not change. In all other cases `item` is left empty.
 * After any other failure the bytes after `offset` are undefined.
 *
 * Returns: 0.
 * Blocks: until the whole message has arrived, without limit.
 * Errors: those of forkq_connection_recv_bytes with FORKQ_ALL, and:
 *   FORKQ_ETOOSHORT  the message does not fit
 *   FORKQ_ERANGE     `offset` is larger than `length`; nothing is received
 * Python: Connection.recv_bytes_into(buf, offset), which raises BufferTooShort(message).
 */
FORKQ_API FORKQ_MUST_CHECK int
forkq_connection_recv_bytes_into(forkq_connection_t *connection, void *buffer,
                                 size_t length, size_t offset, size_t *ret_size,
                                 forkq_item_t *item);

/* Waits until there is something to receive: the start of a message, or end of file. It
 * reads nothing, so another process that shares the connection can receive it. It looks
 * at the descriptor only: after a receive that failed with -ENOMEM, it tells whether more
 * of that message has arrived.
 *
 * Returns: 1 if there is something, 0 if nothing arrived within the timeout.
 * Blocks: for at most `timeout_ms`.
 * Errors:
 *   FORKQ_ENULL       `connection` is NULL
 *   FORKQ_ECLOSED     the connection is closed
 *   FORKQ_EWRITEONLY  the connection does not receive
 *   FORKQ_ETIMEOUT    timeout_ms is below -1
 *   -EBADF            the program has closed the descriptor
 * Python: Connection.poll(timeout). None there is -1 here, and a negative number is 0. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_poll(forkq_connection_t *connection,
                                                     int timeout_ms);

/* Sends a descriptor over a connection on a Unix socket, such as those of a duplex
 * forkq_pipe. The receiver gets a duplicate. The caller keeps `fd`, and may close it
 * after the call. To send a connection, send its descriptor (forkq_connection_fileno). A
 * descriptor is not a message: the other side must call forkq_connection_recv_fd for it.
 *
 * Returns: 0.
 * Blocks: while the stream is full, without limit.
 * Errors: the send errors, the stream errors, and:
 *   -EBADF          `fd` is not open
 *   -ENOTSOCK       the connection is a pipe
 *   -EAFNOSUPPORT   the connection is a socket of another family
 *   -ETOOMANYREFS   too many descriptors of this user are on their way
 * Python: multiprocessing.reduction.send_handle(conn, handle, pid), with the same bytes
 *   on the stream. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send_fd(forkq_connection_t *connection,
                                                        int fd);

/* Receives a descriptor. It is close-on-exec, and the caller owns *ret_fd.
 *
 * Returns: 0.
 * Blocks: until a descriptor arrives, without limit.
 * Errors:
 *   FORKQ_ENULL       `connection` or `ret_fd` is NULL
 *   FORKQ_ECLOSED     the connection is closed
 *   FORKQ_EWRITEONLY  the connection does not receive
 *   FORKQ_EEOF        the other end is closed, and everything was received
 *   FORKQ_ENOFD       a byte arrived without a descriptor; the byte is gone
 *   FORKQ_EBADFRAME   more than one descriptor arrived, or not the byte that accompanies
 *                     one; what arrived is closed
 *   -EMFILE           the process has no descriptors left; the descriptor is lost
 *   -EBUSY            a receive that failed with -ENOMEM has begun a message, which must
 *                     be received first
 *   -ENOTSOCK         the connection is a pipe
 *   -ECONNRESET       the other end was closed with messages unread
 * Python: multiprocessing.reduction.recv_handle(conn). */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_recv_fd(forkq_connection_t *connection,
                                                        int *ret_fd);

/* Returns the descriptor, which the connection keeps. Use it with poll, epoll or
 * uv_poll_t. Do not read from it or write to it.
 *
 * Returns: the descriptor.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL    `connection` is NULL
 *   FORKQ_ECLOSED  the connection is closed
 * Python: Connection.fileno(). */
FORKQ_API FORKQ_MUST_CHECK int
forkq_connection_fileno(const forkq_connection_t *connection);

/* Tells whether the connection was made for receiving, and has not become write-only
 * since. Closing does not change the answer.
 *
 * Returns: 1 or 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `connection` is NULL
 * Python: Connection.readable. */
FORKQ_API int forkq_connection_readable(const forkq_connection_t *connection);

/* Tells whether the connection was made for sending. Closing does not change the answer.
 *
 * Returns: 1 or 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `connection` is NULL
 * Python: Connection.writable. */
FORKQ_API int forkq_connection_writable(const forkq_connection_t *connection);

/* Tells whether the connection is closed.
 *
 * Returns: 1 or 0.
 * Blocks: never.
 * Errors:
 *   FORKQ_ENULL  `connection` is NULL
 * Python: Connection.closed. */
FORKQ_API int forkq_connection_closed(const forkq_connection_t *connection);

/* Closes this process's copy of the descriptor. Sends, receives, poll, forkq_wait and
 * fileno return FORKQ_ECLOSED from then on. Closing twice is allowed.
 *
 * Returns: 0.
 * Blocks: only where close(2) does: on a socket with SO_LINGER, or a terminal with unsent
 *   output.
 * Errors:
 *   FORKQ_ENULL     `connection` is NULL
 *   FORKQ_EPACKING  a packing function of a send on this connection made the call
 *   other           a negative errno of close(2); the descriptor is closed anyway
 * Python: Connection.close(). */
FORKQ_API int forkq_connection_close(forkq_connection_t *connection);

/* Closes the connection and frees the handle. NULL is allowed. No other thread may use
 * the connection, then or later.
 *
 * Blocks: as forkq_connection_close.
 * Errors: none.
 * Python: none; the garbage collector does it. */
FORKQ_API void forkq_connection_destroy(forkq_connection_t *connection);

#ifdef __cplusplus
}
#endif

#endif
