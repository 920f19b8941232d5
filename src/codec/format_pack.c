/* Packing by a format. */
#include "codec/format.h"

#include "codec/serializer.h"

#include <string.h>

/* Members of the container whose bracket was just read: elements, or keys and values. */
static uint32_t count_members(const char *p) {
  struct forkq__directive d;
  uint32_t members = 0;
  for (int depth = 0; depth >= 0;) {
    p = forkq__format_next(p, &d);
    bool closing = d.letter == ']' || d.letter == '}';
    members += depth == 0 && !closing;
    depth += d.letter == '[' || d.letter == '{';
    depth -= closing;
  }
  return members;
}

/* The functions below return 0, an error of forkq, or another number other than 0 if the packer's
 * write failed. */

static int pack_raw(msgpack_packer *packer, const struct forkq__directive *d,
                    struct forkq__arguments *args) {
  const void *data = va_arg(args->list, const void *);
  size_t size = 0;
  if (d->sized)
    size = va_arg(args->list, size_t);
  else if (data != NULL)
    size = strlen(data);
  if (data == NULL && d->optional)
    return msgpack_pack_nil(packer);
  if (data == NULL && (size > 0 || !d->sized))
    return FORKQ_ENULL;
  if (size > UINT32_MAX)
    return FORKQ_ETOOBIG;
  int r =
      d->letter == 's' ? msgpack_pack_str(packer, size) : msgpack_pack_bin(packer, size);
  if (r != 0 || size == 0)
    return r;
  return d->letter == 's' ? msgpack_pack_str_body(packer, data, size)
                          : msgpack_pack_bin_body(packer, data, size);
}

static int pack_signed(msgpack_packer *packer, const struct forkq__directive *d,
                       struct forkq__arguments *args) {
  int64_t value =
      d->letter == 'I' ? va_arg(args->list, int64_t) : va_arg(args->list, int);
  return forkq__format_fits(d, (uint64_t)value, value < 0)
             ? msgpack_pack_int64(packer, value)
             : FORKQ_ERANGE;
}

/* What is shorter than an int comes as an int. */
static int pack_unsigned(msgpack_packer *packer, const struct forkq__directive *d,
                         struct forkq__arguments *args) {
  uint64_t value =
      d->letter == 'U' ? va_arg(args->list, uint64_t) : va_arg(args->list, unsigned);
  return forkq__format_fits(d, value, false) ? msgpack_pack_uint64(packer, value)
                                             : FORKQ_ERANGE;
}

static int pack_object(msgpack_packer *packer, const struct forkq__directive *d,
                       struct forkq__arguments *args) {
  const msgpack_object *object = va_arg(args->list, const msgpack_object *);
  if (object != NULL)
    return forkq__pack(packer, object);
  return d->optional ? msgpack_pack_nil(packer) : FORKQ_ENULL;
}

static int pack_boolean(msgpack_packer *packer, struct forkq__arguments *args) {
  return va_arg(args->list, int) ? msgpack_pack_true(packer) : msgpack_pack_false(packer);
}

static int pack_one(msgpack_packer *packer, const struct forkq__directive *d,
                    const char *after, struct forkq__arguments *args) {
  switch (d->letter) {
  case '[':
    return msgpack_pack_array(packer, count_members(after));
  case '{':
    return msgpack_pack_map(packer, count_members(after) / 2);
  case 's':
  case 'y':
    return pack_raw(packer, d, args);
  case 'i':
  case 'I':
    return pack_signed(packer, d, args);
  case 'u':
  case 'U':
    return pack_unsigned(packer, d, args);
  case 'f':
    return msgpack_pack_double(packer, va_arg(args->list, double));
  case 'b':
    return pack_boolean(packer, args);
  case 'n':
    return msgpack_pack_nil(packer);
  case 'o':
    return pack_object(packer, d, args);
  default: /* a bracket that closes */
    return 0;
  }
}

/* Whether a result is one of forkq's codes, and not what the packer's write returned. */
static bool is_error(int r) {
  return r == FORKQ_ENULL || r == FORKQ_ERANGE || r == FORKQ_ETOOBIG ||
         r == FORKQ_ETOODEEP || r == FORKQ_EBADOBJECT;
}

int forkq__format_pack(msgpack_packer *packer, const char *format,
                       struct forkq__arguments *args) {
  struct forkq__directive d;
  for (const char *p = format; p = forkq__format_next(p, &d), d.letter != '\0';) {
    int r = pack_one(packer, &d, p, args);
    if (r != 0)
      return forkq__format_failed(
          is_error(r) ? r : FORKQ_EPACK,
          &(struct forkq__format_place){ .format = format, .at = d.at });
  }
  return 0;
}

int forkq_vpackf(msgpack_packer *packer, const char *format, va_list args) {
  struct forkq__arguments copy;
  int r = forkq__format_check(format, FORKQ__PACKING, packer);
  if (r < 0)
    return r;
  va_copy(copy.list, args);
  r = forkq__format_pack(packer, format, &copy);
  va_end(copy.list);
  return r;
}

int forkq_packf(msgpack_packer *packer, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int r = forkq_vpackf(packer, format, args);
  va_end(args);
  return r;
}
