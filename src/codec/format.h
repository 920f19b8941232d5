/* Formats: their letters, and whether a format is valid. Packing and reading go through the letters
 * of a valid format one by one. */
#ifndef FORKQ_FORMAT_IMPL_H
#define FORKQ_FORMAT_IMPL_H

#include <forkq/format.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A letter or bracket, with what stands beside it. */
struct forkq__directive {
  const char *at; /* where it begins in the format */
  char letter;    /* '\0': the format ends */
  uint8_t halved; /* how many h are before it */
  bool sized;     /* a # follows */
  bool optional;  /* a ? follows */
};

/* Reads the next directive, and returns where it ends. What is read may be nonsense. */
const char *forkq__format_next(const char *format, struct forkq__directive *ret);

/* Checks a format for packing or for reading, and that `handle` is not NULL: the packer, queue or
 * object. Returns 0; FORKQ_ENULL, FORKQ_EFORMAT or FORKQ_ETOODEEP, and then notes the failure. */
enum forkq__format_use { FORKQ__PACKING, FORKQ__READING };
int forkq__format_check(const char *format, enum forkq__format_use use,
                        const void *handle);

/* Whether an integer, with the bits of an int64_t if it is negative, fits the letters i, u, I, U and
 * the h before them. */
bool forkq__format_fits(const struct forkq__directive *directive, uint64_t value,
                        bool negative);

/* The bytes of such an integer. */
size_t forkq__format_width(const struct forkq__directive *directive);

/* Notes a failure for forkq_format_error, and returns `error`. `key` may be NULL. */
struct forkq__format_place {
  const char *format;
  const char *at;
  const char *key;
  size_t key_size;
};
int forkq__format_failed(int error, const struct forkq__format_place *place);

/* Packs by a format that is valid for packing, with the arguments *args. Returns as forkq_vpackf. */
struct forkq__arguments {
  va_list list;
};
int forkq__format_pack(msgpack_packer *packer, const char *format,
                       struct forkq__arguments *args);

#endif
