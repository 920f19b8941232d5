/* Formats: reading directives, checking formats, and describing failures. */
#include "codec/format.h"

#include "base/os.h"

#include <forkq/item.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

const char *forkq__format_next(const char *format, struct forkq__directive *ret) {
  const char *p = format + strspn(format, " \t\n,:");
  *ret = (struct forkq__directive){ .at = p };
  for (; *p == 'h' && ret->halved < 2; p++)
    ret->halved++;
  ret->letter = *p;
  if (*p == '\0')
    return p;
  p++;
  ret->sized = *p == '#';
  p += ret->sized;
  ret->optional = *p == '?';
  return p + ret->optional;
}

/* ---- checking ------------------------------------------------------------------------------ */

static bool is_one_of(char letter, const char *letters) {
  return letter != '\0' && strchr(letters, letter) != NULL;
}

/* A container that is open in the format. */
struct open {
  bool is_map, has_key; /* the next value belongs to the key */
};

static bool is_key(const struct open *open) {
  return open->is_map && !open->has_key;
}

static bool is_valid_key(const struct forkq__directive *d, enum forkq__format_use use) {
  return d->letter == 's' && d->halved == 0 && (use == FORKQ__READING || !d->optional);
}

static bool is_valid_value(const struct forkq__directive *d, enum forkq__format_use use) {
  if (!is_one_of(d->letter, "[{syiuIUfbno") ||
      (d->halved > 0 && !is_one_of(d->letter, "iu")))
    return false;
  if (d->sized ? !is_one_of(d->letter, "sy") : d->letter == 'y')
    return false;
  return !d->optional ||
         is_one_of(d->letter, use == FORKQ__READING ? "syiuIUfbno" : "syo");
}

static bool closes(const struct forkq__directive *d, const struct open *open) {
  return d->letter == (open->is_map ? '}' : ']') && d->halved == 0 && !d->sized &&
         !d->optional && !open->has_key;
}

static int check(const char *p, enum forkq__format_use use, struct forkq__directive *d) {
  struct open opens[FORKQ_DEPTH_MAX + 1] = { { 0 } }; /* the first is around all */
  struct open *open = opens;
  for (bool begun = false;; begun = true) {
    p = forkq__format_next(p, d);
    if (begun && open == opens)
      return d->letter == '\0' && d->halved == 0 ? 0 : FORKQ_EFORMAT;
    if (is_one_of(d->letter, "]}")) {
      if (open == opens || !closes(d, open))
        return FORKQ_EFORMAT;
      open--;
      continue;
    }
    bool key = is_key(open);
    if (!(key ? is_valid_key(d, use) : is_valid_value(d, use)))
      return FORKQ_EFORMAT;
    open->has_key = key;
    if (!is_one_of(d->letter, "[{"))
      continue;
    if (open == &opens[FORKQ_DEPTH_MAX])
      return FORKQ_ETOODEEP;
    *++open = (struct open){ .is_map = d->letter == '{' };
  }
}

int forkq__format_check(const char *format, enum forkq__format_use use,
                        const void *handle) {
  struct forkq__format_place place = { .format = format != NULL ? format : "" };
  struct forkq__directive d = { .at = place.format };
  int r = FORKQ_ENULL;
  if (format != NULL && handle != NULL)
    r = check(format, use, &d);
  place.at = d.at;
  return r == 0 ? 0 : forkq__format_failed(r, &place);
}

/* ---- integers ------------------------------------------------------------------------------ */

size_t forkq__format_width(const struct forkq__directive *directive) {
  static const size_t halves[] = { sizeof(int), sizeof(short), sizeof(char) };
  return is_one_of(directive->letter, "IU") ? sizeof(int64_t) : halves[directive->halved];
}

bool forkq__format_fits(const struct forkq__directive *directive, uint64_t value,
                        bool negative) {
  uint64_t most = UINT64_MAX >> (64 - CHAR_BIT * forkq__format_width(directive));
  if (!is_one_of(directive->letter, "iI"))
    return !negative && value <= most;
  most >>= 1;
  return negative ? ~value <= most : value <= most;
}

/* ---- failures ------------------------------------------------------------------------------ */

#define ERROR_SIZE 160
static _Thread_local char last_failure[ERROR_SIZE] FORKQ__TLS;

/* How much of a key and of a format is shown. */
enum { KEY_SHOWN = 32, FORMAT_SHOWN = 40 };

const char *forkq_format_error(void) {
  return last_failure;
}

int forkq__format_failed(int error, const struct forkq__format_place *place) {
  size_t shown = place->key_size < KEY_SHOWN ? place->key_size : KEY_SHOWN;
  bool has_key = place->key != NULL;
  snprintf(last_failure, sizeof last_failure, "%s: %s%.*s%sat %td of \"%.*s\"",
           forkq_strerror(error), has_key ? "key \"" : "", has_key ? (int)shown : 0,
           has_key ? place->key : "", has_key ? "\", " : "", place->at - place->format,
           FORMAT_SHOWN, place->format);
  return error;
}
