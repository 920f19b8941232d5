/* The serializer: scanning msgpack bytes, in pieces or all at once, and packing objects. */
#include "codec/serializer.h"

void forkq__scan_begin(struct forkq__scan *scan) {
  scan->skip = 0;
  scan->owed = 1;
  scan->elements = 0;
  scan->length = 0;
  scan->length_left = 0;
  scan->head = 0;
  scan->error = 0;
  scan->depth = 0;
  scan->left[0] = 1;
}

static void open_container(struct forkq__scan *scan, uint64_t elements) {
  if (scan->depth == FORKQ_DEPTH_MAX) {
    scan->error = FORKQ_ETOODEEP;
    return;
  }
  scan->owed += elements;
  scan->elements += elements;
  scan->left[++scan->depth] = elements;
}

/* What an object's first byte says about the bytes after it: their number, or one of these. */
enum {
  ELEMENTS = 0xf0, /* objects; the first byte has their count */
  LENGTH_8 = 0xf1, /* a length or count; the code's lower half is its size */
  LENGTH_16 = 0xf2,
  LENGTH_32 = 0xf4,
  NO_OBJECT = 0xff,
};

static const uint8_t follows[256] = {
  /* clang-format off */
  [0x80 ... 0x9f] = ELEMENTS, /* map, array */
  [0xa0] = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, /* str */
  [0xb0] = 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
  [0xc1] = NO_OBJECT,
  [0xc4] = LENGTH_8, LENGTH_16, LENGTH_32, /* bin */
  [0xc7] = LENGTH_8, LENGTH_16, LENGTH_32, /* ext */
  [0xca] = 4, 8,                           /* float */
  [0xcc] = 1, 2, 4, 8, 1, 2, 4, 8,         /* uint, int */
  [0xd4] = 2, 3, 5, 9, 17,                 /* ext, with its type */
  [0xd9] = LENGTH_8, LENGTH_16, LENGTH_32, /* str */
  [0xdc] = LENGTH_16, LENGTH_32,           /* array */
  [0xde] = LENGTH_16, LENGTH_32,           /* map */
  /* clang-format on */
};

static bool is_long_map(uint8_t head) {
  return head >= 0xde;
}

static bool is_long_container(uint8_t head) {
  return head >= 0xdc;
}

/* An ext has a byte for its type before its data. */
static bool is_long_ext(uint8_t head) {
  return head >= 0xc7 && head <= 0xc9;
}

/* Objects in a map or array whose first byte has their count. */
static uint64_t short_count(uint8_t head) {
  return head <= 0x8f ? 2u * (head & 0x0fu) : head & 0x0fu;
}

/* long_count: objects in a map or array that has its count after the first byte. long_size:
 * bytes of any other object that has a length. */
static uint64_t long_count(uint8_t head, uint32_t count) {
  return is_long_map(head) ? 2 * (uint64_t)count : count;
}

static uint64_t long_size(uint8_t head, uint32_t length) {
  return (uint64_t)length + (is_long_ext(head) ? 1 : 0);
}

static void begin_object(struct forkq__scan *scan, uint8_t head) {
  uint8_t what = follows[head];
  scan->left[scan->depth]--;
  scan->owed--;
  if (what < ELEMENTS) {
    scan->skip = what;
  } else if (what == ELEMENTS) {
    open_container(scan, short_count(head));
  } else if (what == NO_OBJECT) {
    scan->error = FORKQ_EBADOBJECT;
  } else {
    scan->head = head;
    scan->length = 0;
    scan->length_left = what & 0x0fu;
  }
}

static void end_length(struct forkq__scan *scan) {
  if (is_long_container(scan->head))
    open_container(scan, long_count(scan->head, scan->length));
  else
    scan->skip = long_size(scan->head, scan->length);
}

int forkq__scan_feed(struct forkq__scan *scan, const void *data, size_t size) {
  const uint8_t *p = data;
  const uint8_t *end = p + size;
  while (p < end && scan->error == 0) {
    uint64_t bytes_left = (uint64_t)(end - p);
    if (scan->skip > 0) {
      uint64_t n = scan->skip < bytes_left ? scan->skip : bytes_left;
      scan->skip -= n;
      p += n;
    } else if (scan->length_left > 0) {
      scan->length = scan->length << 8 | *p++;
      if (--scan->length_left == 0)
        end_length(scan);
    } else if (scan->owed == 0) {
      scan->error = FORKQ_EBADOBJECT;
    } else {
      while (scan->left[scan->depth] == 0)
        scan->depth--;
      begin_object(scan, *p++);
    }
  }
  return scan->error;
}

int forkq__scan_end(const struct forkq__scan *scan) {
  if (scan->error != 0)
    return scan->error;
  bool complete = scan->owed == 0 && scan->skip == 0 && scan->length_left == 0;
  return complete ? 0 : FORKQ_EBADOBJECT;
}

/* ---- all at once ------------------------------------------------------------------------- */

static uint32_t big_endian(const uint8_t *bytes, uint8_t count) {
  switch (count) {
  case 1:
    return bytes[0];
  case 2:
    return (uint32_t)bytes[0] << 8 | bytes[1];
  default:
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
           bytes[3];
  }
}

/* Reads the length or count after an object's first byte. NULL if it is not complete. */
static const uint8_t *read_length(const uint8_t *p, const uint8_t *end,
                                  uint32_t *ret_length) {
  uint8_t bytes = follows[p[-1]] & 0x0fu;
  if (end - p < bytes)
    return NULL;
  *ret_length = big_endian(p, bytes);
  return p + bytes;
}

int forkq__scan(const void *data, size_t size, uint64_t *ret_elements) {
  const uint8_t *p = data;
  const uint8_t *end = p + size;
  uint64_t outer[FORKQ_DEPTH_MAX]; /* objects to come in each container around this one */
  int depth = 0;
  /* Objects to come in this container, objects to come in all containers around it, and objects
   * in containers so far. */
  uint64_t left = 1, around = 0, elements = 0;
  for (;;) {
    while (left == 0 && depth > 0) {
      left = outer[--depth];
      around -= left;
    }
    if (left == 0)
      break;
    if (p == end)
      return FORKQ_EBADOBJECT;
    left--;
    uint8_t head = *p++;
    uint64_t n = follows[head];
    if (n >= ELEMENTS) {
      uint32_t length = 0;
      if (n == NO_OBJECT || (n != ELEMENTS && (p = read_length(p, end, &length)) == NULL))
        return FORKQ_EBADOBJECT;
      if (n == ELEMENTS || is_long_container(head)) {
        if (depth == FORKQ_DEPTH_MAX)
          return FORKQ_ETOODEEP;
        outer[depth++] = left;
        around += left;
        left = n == ELEMENTS ? short_count(head) : long_count(head, length);
        elements += left;
        if (around + left > (uint64_t)(end - p))
          return FORKQ_EBADOBJECT;
        continue;
      }
      n = long_size(head, length);
    }
    if (n > (uint64_t)(end - p))
      return FORKQ_EBADOBJECT;
    p += n;
  }
  if (p != end)
    return FORKQ_EBADOBJECT;
  if (ret_elements != NULL)
    *ret_elements = elements;
  return 0;
}

/* Checks depth and types before msgpack-c packs, because msgpack-c recurses without a limit.
 * This recursion ends at FORKQ_DEPTH_MAX. */
static int check_object(const msgpack_object *object, int depth) {
  int r = 0;
  switch (object->type) {
  case MSGPACK_OBJECT_ARRAY:
    if (depth == FORKQ_DEPTH_MAX)
      return FORKQ_ETOODEEP;
    for (uint32_t i = 0; i < object->via.array.size && r == 0; i++)
      r = check_object(&object->via.array.ptr[i], depth + 1);
    return r;
  case MSGPACK_OBJECT_MAP:
    if (depth == FORKQ_DEPTH_MAX)
      return FORKQ_ETOODEEP;
    for (uint32_t i = 0; i < object->via.map.size && r == 0; i++) {
      r = check_object(&object->via.map.ptr[i].key, depth + 1);
      if (r == 0)
        r = check_object(&object->via.map.ptr[i].val, depth + 1);
    }
    return r;
  case MSGPACK_OBJECT_NIL:
  case MSGPACK_OBJECT_BOOLEAN:
  case MSGPACK_OBJECT_POSITIVE_INTEGER:
  case MSGPACK_OBJECT_NEGATIVE_INTEGER:
  case MSGPACK_OBJECT_FLOAT32:
  case MSGPACK_OBJECT_FLOAT64:
  case MSGPACK_OBJECT_STR:
  case MSGPACK_OBJECT_BIN:
  case MSGPACK_OBJECT_EXT:
    return 0;
  default:
    return FORKQ_EBADOBJECT;
  }
}

int forkq__pack(msgpack_packer *packer, const msgpack_object *object) {
  int r = check_object(object, 0);
  if (r != 0)
    return r;
  return msgpack_pack_object(packer, *object) == 0 ? 0 : -1;
}
