/* Reading an object by a format: once to check everything, and once to store. */
#include "codec/format.h"

#include <forkq/item.h>
#include <string.h>

static const msgpack_object *find(const msgpack_object_map *map, const char *key,
                                  size_t size) {
  for (uint32_t i = map->size; i-- > 0;) {
    const msgpack_object *k = &map->ptr[i].key;
    if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == size &&
        (size == 0 || memcmp(k->via.str.ptr, key, size) == 0))
      return &map->ptr[i].val;
  }
  return NULL;
}

const msgpack_object *forkq_object_at(const msgpack_object *map, const char *key) {
  if (map == NULL || key == NULL || map->type != MSGPACK_OBJECT_MAP)
    return NULL;
  return find(&map->via.map, key, strlen(key));
}

/* A container that is open in the format, and what stands there in the object. */
struct open {
  const msgpack_object *container; /* NULL: in a value that is missing */
  const msgpack_object *value;     /* of the key; NULL if it is missing */
  const char *key;
  size_t key_size;
  uint32_t next; /* element of an array */
  bool is_map, has_key;
};

struct scan {
  struct forkq__arguments args;
  bool store;
  const msgpack_object *object;
  struct open opens[FORKQ_DEPTH_MAX];
  int depth;
};

/* ---- letters: the object is NULL if it is missing, and then the variables keep their values -- */

static int scan_copy(struct scan *scan, const msgpack_object *object) {
  char *buffer = va_arg(scan->args.list, char *);
  size_t size = va_arg(scan->args.list, size_t);
  if (buffer == NULL)
    return FORKQ_ENULL;
  if (object == NULL)
    return 0;
  const msgpack_object_str *str = &object->via.str;
  if (object->type != MSGPACK_OBJECT_STR ||
      (str->size > 0 && memchr(str->ptr, '\0', str->size) != NULL))
    return FORKQ_EWRONGTYPE;
  if (str->size >= size)
    return FORKQ_ETOOSHORT;
  if (!scan->store)
    return 0;
  if (str->size > 0)
    memcpy(buffer, str->ptr, str->size);
  buffer[str->size] = '\0';
  return 0;
}

/* The pointer that is set may be one to any type of bytes. */
static int scan_raw(struct scan *scan, const msgpack_object *object,
                    msgpack_object_type type) {
  void *data = va_arg(scan->args.list, void *);
  size_t *size = va_arg(scan->args.list, size_t *);
  if (data == NULL || size == NULL)
    return FORKQ_ENULL;
  if (object != NULL && object->type != type)
    return FORKQ_EWRONGTYPE;
  if (object == NULL || !scan->store)
    return 0;
  bool is_str = type == MSGPACK_OBJECT_STR;
  const char *bytes = is_str ? object->via.str.ptr : object->via.bin.ptr;
  memcpy(data, &bytes, sizeof bytes);
  *size = is_str ? object->via.str.size : object->via.bin.size;
  return 0;
}

static bool is_integer(const msgpack_object *object) {
  return object->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
         object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER;
}

static bool is_negative(const msgpack_object *object) {
  return object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && object->via.i64 < 0;
}

/* A signed and an unsigned type of one width have the same bits. */
static void store_integer(void *to, size_t width, uint64_t value) {
  switch (width) {
  case sizeof(char):
    *(unsigned char *)to = (unsigned char)value;
    break;
  case sizeof(short):
    *(unsigned short *)to = (unsigned short)value;
    break;
  case sizeof(int):
    *(unsigned *)to = (unsigned)value;
    break;
  default:
    *(uint64_t *)to = value;
  }
}

/* All pointers to objects are passed in one way. */
static int scan_integer(struct scan *scan, const msgpack_object *object,
                        const struct forkq__directive *d) {
  void *to = va_arg(scan->args.list, void *);
  if (to == NULL)
    return FORKQ_ENULL;
  if (object == NULL)
    return 0;
  if (!is_integer(object))
    return FORKQ_EWRONGTYPE;
  if (!forkq__format_fits(d, object->via.u64, is_negative(object)))
    return FORKQ_ERANGE;
  if (scan->store)
    store_integer(to, forkq__format_width(d), object->via.u64);
  return 0;
}

/* A double has every integer up to this one. */
#define EXACT_MAX (INT64_C(1) << 53)

static int as_double(const msgpack_object *object, double *ret_value) {
  if (object->type == MSGPACK_OBJECT_FLOAT64 || object->type == MSGPACK_OBJECT_FLOAT32) {
    *ret_value = object->via.f64;
    return 0;
  }
  if (!is_integer(object))
    return FORKQ_EWRONGTYPE;
  if (is_negative(object) ? object->via.i64 < -EXACT_MAX : object->via.u64 > EXACT_MAX)
    return FORKQ_ERANGE;
  *ret_value = (double)object->via.i64;
  return 0;
}

static int scan_double(struct scan *scan, const msgpack_object *object) {
  double value, *to = va_arg(scan->args.list, double *);
  if (to == NULL)
    return FORKQ_ENULL;
  if (object == NULL)
    return 0;
  int r = as_double(object, &value);
  if (r == 0 && scan->store)
    *to = value;
  return r;
}

static int scan_boolean(struct scan *scan, const msgpack_object *object) {
  bool *to = va_arg(scan->args.list, bool *);
  if (to == NULL)
    return FORKQ_ENULL;
  if (object != NULL && object->type != MSGPACK_OBJECT_BOOLEAN)
    return FORKQ_EWRONGTYPE;
  if (object != NULL && scan->store)
    *to = object->via.boolean;
  return 0;
}

static int scan_object(struct scan *scan, const msgpack_object *object) {
  const msgpack_object **to = va_arg(scan->args.list, const msgpack_object **);
  if (to == NULL)
    return FORKQ_ENULL;
  if (object != NULL && scan->store)
    *to = object;
  return 0;
}

static int scan_nil(const msgpack_object *object) {
  return object == NULL || object->type == MSGPACK_OBJECT_NIL ? 0 : FORKQ_EWRONGTYPE;
}

/* ---- keys and containers ------------------------------------------------------------------- */

static int scan_key(struct scan *scan, const struct forkq__directive *d) {
  struct open *open = &scan->opens[scan->depth - 1];
  open->key = va_arg(scan->args.list, const char *);
  if (d->sized)
    open->key_size = va_arg(scan->args.list, size_t);
  if (open->key == NULL)
    return FORKQ_ENULL;
  if (!d->sized)
    open->key_size = strlen(open->key);
  open->has_key = true;
  open->value = NULL;
  if (open->container == NULL)
    return 0;
  open->value = find(&open->container->via.map, open->key, open->key_size);
  return open->value != NULL || d->optional ? 0 : FORKQ_EMISSING;
}

static int scan_container(struct scan *scan, const msgpack_object *object, bool is_map) {
  if (object != NULL &&
      object->type != (is_map ? MSGPACK_OBJECT_MAP : MSGPACK_OBJECT_ARRAY))
    return FORKQ_EWRONGTYPE;
  scan->opens[scan->depth++] = (struct open){ .container = object, .is_map = is_map };
  return 0;
}

/* Sets *ret_value to what stands where the format has a value. */
static int next_value(struct scan *scan, const msgpack_object **ret_value) {
  struct open *open = scan->depth > 0 ? &scan->opens[scan->depth - 1] : NULL;
  if (open == NULL) {
    *ret_value = scan->object;
  } else if (open->is_map) {
    *ret_value = open->value;
    open->has_key = false;
  } else if (open->container == NULL) {
    *ret_value = NULL;
  } else {
    const msgpack_object_array *array = &open->container->via.array;
    if (open->next == array->size)
      return FORKQ_EMISSING;
    *ret_value = &array->ptr[open->next++];
  }
  return 0;
}

static int scan_value(struct scan *scan, const struct forkq__directive *d) {
  const msgpack_object *object = NULL;
  int r = next_value(scan, &object);
  if (r < 0)
    return r;
  if (d->optional && object != NULL && object->type == MSGPACK_OBJECT_NIL)
    object = NULL;
  switch (d->letter) {
  case '[':
  case '{':
    return scan_container(scan, object, d->letter == '{');
  case 's':
    return d->sized ? scan_raw(scan, object, MSGPACK_OBJECT_STR)
                    : scan_copy(scan, object);
  case 'y':
    return scan_raw(scan, object, MSGPACK_OBJECT_BIN);
  case 'f':
    return scan_double(scan, object);
  case 'b':
    return scan_boolean(scan, object);
  case 'n':
    return scan_nil(object);
  case 'o':
    return scan_object(scan, object);
  default:
    return scan_integer(scan, object, d);
  }
}

static int scan_one(struct scan *scan, const struct forkq__directive *d) {
  const struct open *open = scan->depth > 0 ? &scan->opens[scan->depth - 1] : NULL;
  if (d->letter == ']' || d->letter == '}') {
    scan->depth--;
    return 0;
  }
  return open != NULL && open->is_map && !open->has_key ? scan_key(scan, d)
                                                        : scan_value(scan, d);
}

/* ---- the whole ----------------------------------------------------------------------------- */

static int failed(int error, const struct scan *scan, const char *format,
                  const char *at) {
  struct forkq__format_place place = { .format = format, .at = at };
  for (int i = scan->depth; i-- > 0 && place.key == NULL;) {
    place.key = scan->opens[i].key;
    place.key_size = scan->opens[i].key_size;
  }
  return forkq__format_failed(error, &place);
}

static int scan_by(const msgpack_object *object, const char *format, va_list args,
                   bool store) {
  struct forkq__directive d;
  struct scan scan = { .store = store, .object = object };
  int r = 0;
  va_copy(scan.args.list, args);
  for (const char *p = format;
       r == 0 && (p = forkq__format_next(p, &d), d.letter != '\0');)
    r = scan_one(&scan, &d);
  va_end(scan.args.list);
  return r == 0 ? 0 : failed(r, &scan, format, d.at);
}

int forkq_object_vscanf(const msgpack_object *object, const char *format, va_list args) {
  int r = forkq__format_check(format, FORKQ__READING, object);
  if (r == 0)
    r = scan_by(object, format, args, false);
  return r == 0 ? scan_by(object, format, args, true) : r;
}

int forkq_object_scanf(const msgpack_object *object, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int r = forkq_object_vscanf(object, format, args);
  va_end(args);
  return r;
}
