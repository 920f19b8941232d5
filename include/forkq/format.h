/* forkq/format.h: objects without ceremony. A format says what an object is made of; the values
 * are the arguments after it, as in printf(3), json_pack of jansson, and Py_BuildValue.
 *
 *   forkq_queue_putf(queue, -1, "{s:s,s:i}", "path", path, "hits", hits);
 *
 *   char path[256];
 *   int hits;
 *   r = forkq_object_scanf(&item.object, "{s:s,s:i}", "path", path, sizeof path, "hits", &hits);
 *
 * For connections, simple queues, loops and memory of the program's own, forkq_packf packs the
 * object within a packing function (forkq/item.h):
 *
 *   static int pack_hit(msgpack_packer *packer, void *arg) {
 *     const struct hit *hit = arg;
 *     return forkq_packf(packer, "{s:s,s:i}", "path", hit->path, "hits", hit->hits);
 *   }
 *
 *   forkq_connection_send_with(connection, pack_hit, &hit);
 *
 * Formats
 *
 *   A format is one value: a letter; `[` values `]`, an array; or `{` pairs of a key and a value
 *   `}`, a map. Spaces, tabs, newlines, commas and colons between them mean nothing.
 *
 *          object           argument when packing     arguments when reading
 *   s      str              const char *              char *buffer, size_t size
 *   s#     str              const char *, size_t      const char **, size_t *
 *   y#     bin              const void *, size_t      const void **, size_t *
 *   i      integer          int                       int *
 *   u      integer          unsigned                  unsigned *
 *   hi hu  integer          short, unsigned short     short *, unsigned short *
 *   hhi    integer          signed char               signed char *
 *   hhu    integer          unsigned char             unsigned char *
 *   I      integer          int64_t                   int64_t *
 *   U      integer          uint64_t                  uint64_t *
 *   f      float            double                    double *
 *   b      boolean          bool                      bool *
 *   n      nil              none                      none
 *   o      of any type      const msgpack_object *    const msgpack_object **
 *
 *   For y#, the pointer that is set may also be a const char * or a const uint8_t *.
 *
 *   A key is `s` or `s#`. Its argument is the key itself, when packing and when reading:
 *   const char *, or const char *, size_t.
 *
 *   A `?` after s, s#, y# or o when packing: NULL is nil. Without it, NULL is FORKQ_ENULL. (An
 *   empty str or bin may be NULL with the size 0.)
 *   A `?` after a key when reading: the map may lack the key.
 *   A `?` after a letter when reading: the value may be nil.
 *   The variables of what is missing or nil keep their values, so set them before the call.
 *
 * The arguments must have exactly these types
 *
 *   The compiler cannot check them: its check of printf formats knows no bytes, booleans or
 *   objects. An argument of another type, or too few of them, is undefined behaviour, as in
 *   printf(3). So write (int64_t)1 or (size_t)8 where a number is meant for I or a size, and never
 *   pass a size_t, a long or a time_t for i. A size comes from sizeof or strlen(3). A pointer to a
 *   number of another size than the letter says overwrites what lies beside it.
 *
 *   Everything else is checked, at run time, before anything is put, sent or stored: the format, that
 *   no pointer is NULL, the types in the object, and that each number and each str fits. */
#ifndef FORKQ_FORMAT_H
#define FORKQ_FORMAT_H

#include <forkq/base.h>
#include <msgpack.h>
#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Packs one object by a format. The letters o copy the objects; all arguments stay the caller's.
 * vpackf takes the arguments as a va_list, and leaves it as it is.
 *
 * Returns: 0, so that it may be the result of a packing function. After FORKQ_EFORMAT, and
 *   FORKQ_ETOODEEP because of the format, the packer has written nothing. After another failure it
 *   has written a part, which a put or send drops.
 * Blocks: never, unless the packer's write function does.
 * Errors:
 *   FORKQ_EFORMAT     the format is not valid
 *   FORKQ_ENULL       `packer`, `format`, or an argument without `?` is NULL
 *   FORKQ_ERANGE      a number does not fit hi, hu, hhi or hhu
 *   FORKQ_ETOODEEP    the format, or an object for o by itself, is nested deeper than FORKQ_DEPTH_MAX; a put
 *                     or send checks both together
 *   FORKQ_ETOOBIG     a str or bin is longer than 2^32 - 1 bytes
 *   FORKQ_EBADOBJECT  an object for o has a type that msgpack does not have
 *   FORKQ_EPACK       the packer's write function failed
 * In a put or a send, each of these is FORKQ_EPACK to the caller; forkq_format_error tells more.
 * Python: none; there, a dict is put as it is. */
FORKQ_API FORKQ_MUST_CHECK int forkq_packf(msgpack_packer *packer, const char *format,
                                           ...);
FORKQ_API FORKQ_MUST_CHECK int forkq_vpackf(msgpack_packer *packer, const char *format,
                                            va_list args);

/* Reads an object by a format, into the variables that the arguments point to.
 *
 * `s` copies the str into the caller's buffer of `size` bytes, and ends it with a NUL. `s#`, `y#` and
 * `o` point into the object, and are valid as long as it is: for an item, until its next get. The
 * bytes of s# do not end with a NUL. Keys that the format does not name, and elements of an array
 * after those that it names, are ignored. A map that has a key twice has the later value, as in
 * Python. vscanf takes the arguments as a va_list, and leaves it as it is.
 *
 * Nothing is converted but integers from -2^53 to 2^53 to f, and floats of 32 bits. Nothing is cut.
 *
 * Returns: 0. After a failure no variable and no buffer has changed; forkq_format_error names the key.
 * Blocks: never.
 * Errors:
 *   FORKQ_EFORMAT     the format is not valid
 *   FORKQ_ENULL       `object`, `format`, or an argument is NULL
 *   FORKQ_EMISSING    the map lacks a key without `?`, or the array has fewer elements
 *   FORKQ_EWRONGTYPE  a value is not of the letter's type, a container is not of the bracket's, or
 *                     the str for s has a NUL in it
 *   FORKQ_ERANGE      an integer does not fit: 300 in hhu, -1 in u, 2^31 in i, 2^53 + 1 in f
 *   FORKQ_ETOOSHORT   the buffer for s is too small for the str and its NUL
 *   FORKQ_ETOODEEP    the format is nested deeper than FORKQ_DEPTH_MAX
 * Python: path, hits = item["path"], item["hits"], with KeyError and, later, TypeError. */
FORKQ_API FORKQ_MUST_CHECK int forkq_object_scanf(const msgpack_object *object,
                                                  const char *format, ...);
FORKQ_API FORKQ_MUST_CHECK int forkq_object_vscanf(const msgpack_object *object,
                                                   const char *format, va_list args);

/* Finds the value of a key in a map. A map that has the key twice has the later value.
 *
 * Returns: the value, in the map and valid as long as it is; or NULL if there is none, if the object
 *   is not a map, or if an argument is NULL.
 * Blocks: never.
 * Errors: none.
 * Python: dict.get(key). */
FORKQ_API const msgpack_object *forkq_object_at(const msgpack_object *map,
                                                const char *key);

/* Describes the last failure of a function with a format on this thread, for a message: the error,
 * the key if there is one, and the place in the format.
 *
 * Returns: such as
 *     item is not of the type that was asked for: key "hits", at 7 of "{s:s,s:i}"
 *   or "" if there was no failure. Valid until the thread's next failure, and its end.
 * Blocks: never.
 * Errors: none.
 * Python: the text of the exception. */
FORKQ_API const char *forkq_format_error(void);

#ifdef __cplusplus
}
#endif

#endif
