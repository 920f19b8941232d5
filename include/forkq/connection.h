/* forkq/connection.h: pipes, and the connections at their ends.
 *
 * The counterpart of multiprocessing.Pipe and multiprocessing.connection.Connection. A
 * connection sends and receives whole messages over a byte stream: objects, packed with
 * msgpack, or plain bytes. What goes over the stream is byte for byte what CPython's
 * Connection writes and reads, so that one may sit at the other end and exchange bytes
 * (send_bytes and recv_bytes; its send and recv use pickle).
 *
 * A message on the stream is its length as a signed 32-bit big-endian number, then its
 * bytes; for one above 0x7fffffff bytes, -1, the length as an unsigned 64-bit big-endian
 * number, and its bytes. Any message may come in the long form.
 *
 * What holds when a process is killed: the stream belongs to the kernel, nothing else is
 * shared. The peer of one that died in the middle of a send receives what was whole, then
 * FORKQ_ETORN, then FORKQ_EEOF. Several writers or readers of one stream are not kept
 * apart, as they are not in CPython: their messages mix. Use a queue for that.
 *
 * What a hostile peer can do: keep a receive waiting that has seen the beginning of a
 * message, and make it use memory in proportion to the bytes really sent; nothing else. A
 * length is never believed before that many bytes have come.
 *
 * Threads  A connection has no locks: one thread may send while another one receives, and
 *          that is all. Two sends, two receives, or a close beside anything, exclude each
 *          other; poll, recv_fd and forkq_wait count as receives, send_fd as a send.
 * Fork     Parent and child each have the connection afterwards. Close in each process
 *          what it does not use: the end of file comes when the last copy of the other
 *          end is closed. Any thread may fork at any time; but a connection that another
 *          thread was just using can only be destroyed in the child.
 * Exec     The descriptors of forkq_pipe are close-on-exec. To hand a connection to a
 *          program, give its descriptor (forkq_connection_fileno) another number in the
 *          child, with dup2 or posix_spawn_file_actions_adddup2, and let the program
 *          begin with forkq_connection_open on that number.
 * Blocking Sends and receives wait as long as it takes, on descriptors that do not block
 *          (O_NONBLOCK) as well as on those that do. Only poll and forkq_wait have a
 *          timeout. They say that the first bytes of a message are there, or the end of the
 *          file: a receive then waits for the rest of the message.
 * Cancel   A thread that is cancelled (pthread_cancel(3)) ends in a send or a receive, in poll,
 *          send_fd, recv_fd and forkq_wait: at the beginning of the call, or while the call
 *          waits for the first byte of a message or for room for it. A receive has taken
 *          nothing then, and a send has written nothing or, in rare cases, all; the
 *          connection can be used on. Once a part of a message has come or gone, the call goes
 *          on to the end of the message, and the thread ends at its next cancellation point.
 *          Nothing else here is a cancellation point. A thread whose cancellation is
 *          asynchronous (PTHREAD_CANCEL_ASYNCHRONOUS) must not call forkq.
 * Signals  A call that a handler interrupts goes on. A write without a reader is -EPIPE,
 *          and never a SIGPIPE, whatever the program does with that signal.
 */
#ifndef FORKQ_CONNECTION_H
#define FORKQ_CONNECTION_H

#include <forkq/base.h>
#include <forkq/item.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct forkq_connection forkq_connection_t;

/* As a size: all of the buffer behind the offset. As a maxlength: any length. */
#define FORKQ_ALL ((size_t)-1)

/* Creates two connected connections.
 *
 * `duplex` nonzero: a pair of Unix stream sockets; both send and receive. Zero: a pipe;
 * *ret_a only receives what *ret_b only sends.
 *
 * The caller owns both and gives each back with forkq_connection_destroy, in every
 * process that has them. Costs one descriptor each. Does not block.
 * Errors: FORKQ_ENULL, -ENOMEM, -EMFILE, -ENFILE. Nothing is left behind by a failure.
 * Python: multiprocessing.Pipe(duplex), where duplex is the default. */
FORKQ_API FORKQ_MUST_CHECK int forkq_pipe(forkq_connection_t **ret_a,
                                          forkq_connection_t **ret_b, int duplex);

/* Makes a connection of a descriptor, inherited or from anywhere else: a pipe, a socket,
 * or whatever else carries bytes in order. `readable` and `writable` say what it shall be
 * used for. On success the descriptor belongs to the connection; on failure it stays the
 * caller's. Its flags (O_NONBLOCK, close-on-exec) are left as they are.
 *
 * Errors: FORKQ_ENULL, -EBADF (negative, or not open), -EINVAL (neither readable nor
 * writable), -ENOMEM.
 * Python: multiprocessing.connection.Connection(handle, readable, writable), which finds
 * out at the first use that the descriptor is not open. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_open(forkq_connection_t **ret_connection,
                                                     int fd, int readable, int writable);

/* Sends one object.
 *
 *   forkq_connection_send          an object
 *   forkq_connection_send_packed   `size` bytes that are exactly one msgpack object;
 *                                  checked here, without allocating
 *   forkq_connection_send_with     what `pack` writes; as with a queue, the function must
 *                                  not send on or close this connection (FORKQ_EPACKING)
 *
 * A function that throws a C++ exception, or whose thread ends in it, has sent nothing, and the
 * connection is as before. One that jumps out (longjmp) has sent nothing, either; but for forkq
 * it still packs, until the thread that jumped makes its next call: by a function that is no
 * deeper in the stack than the one that was left, on the stack that the thread was made with.
 *
 * Returns when the message is with the kernel; blocks while the stream is full. Nothing
 * is kept of what was handed in. The connection keeps up to 64 KiB of memory for packing.
 *
 * Errors with nothing sent, and the connection as usable as before: FORKQ_ENULL,
 * FORKQ_ECLOSED, FORKQ_EREADONLY, FORKQ_EPACKING, FORKQ_ETOODEEP, FORKQ_ETOOBIG (above
 * FORKQ_MESSAGE_MAX), FORKQ_EBADOBJECT, FORKQ_EPACK, -ENOMEM.
 * Errors of the stream: -EPIPE (nobody can read any more), -ECONNRESET (the other end was
 * closed with messages unread), or another errno of write(2). When such an error came
 * after a part of the message had gone, the message cannot be completed and nothing may
 * follow it: every later send fails with the same error. Receiving is not touched by
 * this.
 *
 * Python: Connection.send(obj), which leaves that partial message there for the next send
 * to be misread with. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send(forkq_connection_t *connection,
                                                     const msgpack_object *object);
FORKQ_API FORKQ_MUST_CHECK int
forkq_connection_send_packed(forkq_connection_t *connection, const void *data,
                             size_t size);
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send_with(forkq_connection_t *connection,
                                                          forkq_pack_fn pack, void *arg);

/* Sends plain bytes as one message: `size` bytes at `offset` of a buffer of `length`
 * bytes; FORKQ_ALL as size: all behind the offset. No bytes at all are a message too;
 * `data` may be NULL if `length` is 0. There is no limit to the size: above 0x7fffffff
 * bytes the long form is written. Does not allocate. Blocks and fails as
 * forkq_connection_send, and with FORKQ_ERANGE if offset or size lead out of the buffer.
 * Python: Connection.send_bytes(buf, offset, size). */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send_bytes(forkq_connection_t *connection,
                                                           const void *data,
                                                           size_t length, size_t offset,
                                                           size_t size);

/* Receives one object into an item: item->object, and item->data beneath it. Waits for a
 * message and for all of it.
 *
 * Errors that leave the connection as usable as before:
 *   FORKQ_ENULL, FORKQ_ECLOSED, FORKQ_EWRITEONLY
 *   FORKQ_EEOF         the other end is closed and everything was received
 *   FORKQ_ETORN        the other end went away in the middle of a message, be it in its
 *                      length, between length and bytes, or in the bytes. What came of it
 *                      is dropped; the next receive is FORKQ_EEOF
 *   FORKQ_EBADOBJECT   the message is not exactly one msgpack object
 *   FORKQ_ETOODEEP     it is one, nested deeper than FORKQ_DEPTH_MAX. In both cases the
 *                      message is received, and item->data has its bytes
 *   -ENOMEM            the message is not lost: the next receive, of whatever kind, goes
 *                      on with it. If only the object did not fit, item->data has the
 *                      bytes
 *   -ECONNRESET        the other end was closed with messages unread
 * Errors after which the stream has no known place to go on at. As in CPython after a bad
 * length, a connection that can only receive is closed, another one is write-only from
 * then:
 *   FORKQ_ETOOBIG      longer than FORKQ_MESSAGE_MAX
 *   FORKQ_EBADFRAME    a length below -1
 *   a negative errno of read(2), or of anything else, in the middle of a message
 *
 * Python: Connection.recv(). There the end of the file between length and bytes is
 * EOFError, like a clean end, and a negative length is an empty message. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_recv(forkq_connection_t *connection,
                                                     forkq_item_t *item);

/* Receives one message as plain bytes: item->data (never NULL after success) and
 * item->size; item->object is nil. A message longer than `maxlength`, FORKQ_ALL for any
 * length, is not received: FORKQ_ETOOBIG, with the consequence above. Otherwise as
 * forkq_connection_recv, but never FORKQ_EBADOBJECT or FORKQ_ETOODEEP, and there is no
 * limit of its own but the address space (FORKQ_ETOOBIG).
 * Python: Connection.recv_bytes(maxlength). */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_recv_bytes(forkq_connection_t *connection,
                                                           forkq_item_t *item,
                                                           size_t maxlength);

/* Receives one message as plain bytes into the caller's buffer of `length` bytes, at
 * `offset`, and sets *ret_size to its size. A message that fits is read straight to its
 * place and nothing is allocated.
 *
 * One that does not fit is received all the same, whole, into `item`: FORKQ_ETOOSHORT,
 * with the buffer and *ret_size untouched. `item` may be NULL: the message is dropped
 * then. In every other case the item is left empty.
 * Errors besides, as forkq_connection_recv_bytes: FORKQ_ERANGE (offset above length;
 * nothing is received). After a failure the bytes behind the offset are undefined.
 * Python: Connection.recv_bytes_into(buf, offset), which raises
 * BufferTooShort(message). */
FORKQ_API FORKQ_MUST_CHECK int
forkq_connection_recv_bytes_into(forkq_connection_t *connection, void *buffer,
                                 size_t length, size_t offset, size_t *ret_size,
                                 forkq_item_t *item);

/* 1 if there is something to receive, which may be the end of the file or the first bytes
 * of a message, 0 if nothing came within `timeout_ms`. It looks at the descriptor alone: after
 * a receive that failed with -ENOMEM, it says whether more of that message is there. Reads
 * nothing, so that another process that shares the connection can receive it.
 * Errors: FORKQ_ENULL, FORKQ_ECLOSED, FORKQ_EWRITEONLY, FORKQ_ETIMEOUT, -EBADF (the
 * descriptor was closed behind the connection's back).
 * Python: Connection.poll(timeout), where None is our -1 and a negative number is our
 * 0. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_poll(forkq_connection_t *connection,
                                                     int timeout_ms);

/* Sends a descriptor over a connection on a Unix socket, such as forkq_pipe's duplex
 * ones: the receiver gets a duplicate. `fd` stays the caller's and may be closed when the
 * call returns. To send a connection, send its fileno. Not a message: the other side must
 * expect it with forkq_connection_recv_fd.
 * Errors: FORKQ_ENULL, FORKQ_ECLOSED, FORKQ_EREADONLY, FORKQ_EPACKING, -EBADF (fd),
 * -ENOTSOCK (a pipe), -EAFNOSUPPORT (a socket of another family), -ETOOMANYREFS (too many
 * on their way), and those of the stream.
 * Python: multiprocessing.reduction.send_handle(conn, handle, pid), the same on the
 * wire. */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_send_fd(forkq_connection_t *connection,
                                                        int fd);

/* Receives a descriptor, close-on-exec, that the caller then owns. Waits for it.
 * Errors: FORKQ_ENULL, FORKQ_ECLOSED, FORKQ_EWRITEONLY, FORKQ_EEOF, FORKQ_ENOFD (a byte
 * came without a descriptor; the byte is gone), FORKQ_EBADFRAME (more than one came, or
 * not the byte that goes with one: what came is closed), -EMFILE (this process has no
 * room for it: it is lost), -EBUSY (a message begun by a receive that failed with -ENOMEM
 * comes first), -ENOTSOCK, -ECONNRESET.
 * Python: multiprocessing.reduction.recv_handle(conn). */
FORKQ_API FORKQ_MUST_CHECK int forkq_connection_recv_fd(forkq_connection_t *connection,
                                                        int *ret_fd);

/* The descriptor, which stays the connection's: fit for poll, epoll or a uv_poll_t, not
 * for reading and writing beside it. Errors: FORKQ_ENULL, FORKQ_ECLOSED.
 * Python: Connection.fileno(). */
FORKQ_API FORKQ_MUST_CHECK int
forkq_connection_fileno(const forkq_connection_t *connection);

/* 1 or 0: whether it receives, sends, is closed. The first two do not ask whether it is
 * closed. Errors: FORKQ_ENULL. Python: the attributes of the same name. */
FORKQ_API int forkq_connection_readable(const forkq_connection_t *connection);
FORKQ_API int forkq_connection_writable(const forkq_connection_t *connection);
FORKQ_API int forkq_connection_closed(const forkq_connection_t *connection);

/* Closes this process's copy of the descriptor; closing twice is allowed. Sends, receives, poll,
 * forkq_wait and fileno are FORKQ_ECLOSED from then on. Waits only where close(2) of such a
 * descriptor does: a socket with SO_LINGER, a terminal with unsent output.
 * Errors: FORKQ_ENULL, FORKQ_EPACKING, a negative errno of close(2), the descriptor being
 * gone then too. Python: Connection.close(). */
FORKQ_API int forkq_connection_close(forkq_connection_t *connection);

/* Closes the connection and frees the handle. No other thread may be in a call on it, or
 * make one afterwards. NULL is allowed. */
FORKQ_API void forkq_connection_destroy(forkq_connection_t *connection);

#ifdef __cplusplus
}
#endif

#endif
