/* msgpack to JSON and back. */
#include "tool/items.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- base64 ------------------------------------------------------------------------------- */

static const char digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *base64_of(const void *data, size_t size) {
  const unsigned char *from = data;
  char *text = malloc((size + 2) / 3 * 4 + 1), *to = text;
  if (text == NULL)
    return NULL;
  for (size_t i = 0; i < size; i += 3) {
    uint32_t left = (uint32_t)(size - i < 3 ? size - i : 3);
    uint32_t bits = (uint32_t)from[i] << 16 |
                    (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                    (left > 2 ? from[i + 2] : 0);
    for (uint32_t k = 0; k < 4; k++)
      *to++ = (char)(k <= left ? digits[bits >> (18 - 6 * k) & 63] : '=');
  }
  *to = '\0';
  json_t *value = json_string(text);
  free(text);
  return value;
}

static int digit_of(char c) {
  const char *at = c != '\0' ? strchr(digits, c) : NULL;
  return at != NULL ? (int)(at - digits) : -1;
}

/* Returns the bytes, which the caller frees; NULL: it is no base64, or there is no memory. */
static char *bytes_of(const json_t *value, size_t *ret_size) {
  const char *text = json_string_value(value);
  size_t length = json_string_length(value);
  if (text == NULL || length % 4 != 0)
    return NULL;
  size_t padding = length > 0 && text[length - 1] == '=' ? 1 : 0;
  padding += padding > 0 && text[length - 2] == '=' ? 1 : 0;
  char *data = malloc(length / 4 * 3 + 1);
  size_t size = 0;
  uint32_t bits = 0;
  for (size_t i = 0; data != NULL && i < length; i++) {
    int digit = i < length - padding ? digit_of(text[i]) : 0;
    if (digit < 0) {
      free(data);
      return NULL;
    }
    bits = bits << 6 | (uint32_t)digit;
    if (i % 4 == 3)
      for (int shift = 16; shift >= 0; shift -= 8)
        data[size++] = (char)(bits >> shift);
  }
  *ret_size = size - padding;
  return data;
}

/* ---- msgpack to JSON ---------------------------------------------------------------------- */

static json_t *special(const char *key, json_t *value) {
  json_t *object = json_object();
  json_object_set_new(object, key, value);
  return object;
}

/* msgpack-c has an empty str at NULL. */
static const char *text_at(const char *data) {
  return data != NULL ? data : "";
}

static json_t *json_of_string(const char *data, size_t size) {
  json_t *value = json_stringn(text_at(data), size); /* NULL: not UTF-8 */
  return value != NULL ? value : special("$str", base64_of(data, size));
}

static json_t *json_of_float(double number) {
  if (isfinite(number))
    return json_real(number);
  return special("$float", json_string(isnan(number) ? "nan"
                                       : number > 0  ? "inf"
                                                     : "-inf"));
}

static json_t *json_of_unsigned(uint64_t number) {
  char text[24];
  if (number <= INT64_MAX)
    return json_integer((json_int_t)number);
  snprintf(text, sizeof text, "%" PRIu64, number);
  return special("$uint", json_string(text));
}

static json_t *json_of_ext(const msgpack_object_ext *ext) {
  json_t *pair = json_array();
  json_array_append_new(pair, json_integer(ext->type));
  json_array_append_new(pair, base64_of(ext->ptr, ext->size));
  return special("$ext", pair);
}

static json_t *json_of_array(const msgpack_object_array *array) {
  json_t *value = json_array();
  for (uint32_t i = 0; i < array->size; i++)
    json_array_append_new(value, forkq__tool_json_of(&array->ptr[i]));
  return value;
}

/* Adds a member. False: JSON has no such key, or has it already. */
static bool add_member(json_t *object, const msgpack_object_kv *member) {
  if (member->key.type != MSGPACK_OBJECT_STR)
    return false;
  const char *text = text_at(member->key.via.str.ptr);
  size_t size = member->key.via.str.size;
  if (memchr(text, '\0', size) != NULL)
    return false;
  char *key = strndup(text, size);
  bool added = key != NULL && json_object_get(object, key) == NULL &&
               json_object_set_new(object, key, forkq__tool_json_of(&member->val)) == 0;
  free(key);
  return added;
}

static json_t *pairs_of(const msgpack_object_map *map) {
  json_t *pairs = json_array();
  for (uint32_t i = 0; i < map->size; i++) {
    json_t *pair = json_array();
    json_array_append_new(pair, forkq__tool_json_of(&map->ptr[i].key));
    json_array_append_new(pair, forkq__tool_json_of(&map->ptr[i].val));
    json_array_append_new(pairs, pair);
  }
  return pairs;
}

static bool looks_special(const json_t *object) {
  void *first = json_object_iter((json_t *)(uintptr_t)object);
  return json_object_size(object) == 1 && json_object_iter_key(first)[0] == '$';
}

static json_t *json_of_map(const msgpack_object_map *map) {
  json_t *object = json_object();
  bool plain = true;
  for (uint32_t i = 0; i < map->size && plain; i++)
    plain = add_member(object, &map->ptr[i]);
  if (plain && !looks_special(object))
    return object;
  json_decref(object);
  return special("$map", pairs_of(map));
}

json_t *forkq__tool_json_of(const msgpack_object *object) {
  switch (object->type) {
  case MSGPACK_OBJECT_BOOLEAN:
    return json_boolean(object->via.boolean);
  case MSGPACK_OBJECT_POSITIVE_INTEGER:
    return json_of_unsigned(object->via.u64);
  case MSGPACK_OBJECT_NEGATIVE_INTEGER:
    return json_integer(object->via.i64);
  case MSGPACK_OBJECT_FLOAT32:
  case MSGPACK_OBJECT_FLOAT64:
    return json_of_float(object->via.f64);
  case MSGPACK_OBJECT_STR:
    return json_of_string(object->via.str.ptr, object->via.str.size);
  case MSGPACK_OBJECT_BIN:
    return special("$bin", base64_of(object->via.bin.ptr, object->via.bin.size));
  case MSGPACK_OBJECT_EXT:
    return json_of_ext(&object->via.ext);
  case MSGPACK_OBJECT_ARRAY:
    return json_of_array(&object->via.array);
  case MSGPACK_OBJECT_MAP:
    return json_of_map(&object->via.map);
  default:
    return json_null();
  }
}

/* ---- JSON to msgpack ---------------------------------------------------------------------- */

static bool pack_bytes(msgpack_packer *packer, const json_t *value, bool string) {
  size_t size;
  char *data = bytes_of(value, &size);
  if (data == NULL)
    return false;
  if (string)
    msgpack_pack_str_with_body(packer, data, size);
  else
    msgpack_pack_bin_with_body(packer, data, size);
  free(data);
  return true;
}

static bool pack_ext(msgpack_packer *packer, const json_t *value) {
  const json_t *type = json_array_get(value, 0);
  size_t size;
  json_int_t number = json_integer_value(type);
  if (!json_is_integer(type) || number < INT8_MIN || number > INT8_MAX ||
      json_array_size(value) != 2)
    return false;
  char *data = bytes_of(json_array_get(value, 1), &size);
  if (data == NULL)
    return false;
  msgpack_pack_ext_with_body(packer, data, size, (int8_t)number);
  free(data);
  return true;
}

static bool pack_float(msgpack_packer *packer, const json_t *value) {
  const char *text = json_string_value(value);
  if (text == NULL ||
      (strcmp(text, "nan") != 0 && strcmp(text, "inf") != 0 && strcmp(text, "-inf") != 0))
    return false;
  msgpack_pack_double(packer, strtod(text, NULL));
  return true;
}

static bool pack_unsigned(msgpack_packer *packer, const json_t *value) {
  const char *text = json_string_value(value);
  char *end;
  if (text == NULL || text[0] < '0' || text[0] > '9')
    return false;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (errno != 0 || *end != '\0')
    return false;
  msgpack_pack_uint64(packer, number);
  return true;
}

static bool pack_pairs(msgpack_packer *packer, const json_t *pairs) {
  size_t i;
  json_t *pair;
  if (!json_is_array(pairs))
    return false;
  msgpack_pack_map(packer, json_array_size(pairs));
  json_array_foreach(pairs, i, pair) {
    if (json_array_size(pair) != 2 ||
        !forkq__tool_pack_json(packer, json_array_get(pair, 0)) ||
        !forkq__tool_pack_json(packer, json_array_get(pair, 1)))
      return false;
  }
  return true;
}

static bool pack_special(msgpack_packer *packer, const char *key, const json_t *value) {
  if (strcmp(key, "$bin") == 0 || strcmp(key, "$str") == 0)
    return pack_bytes(packer, value, key[1] == 's');
  if (strcmp(key, "$ext") == 0)
    return pack_ext(packer, value);
  if (strcmp(key, "$float") == 0)
    return pack_float(packer, value);
  if (strcmp(key, "$uint") == 0)
    return pack_unsigned(packer, value);
  return strcmp(key, "$map") == 0 && pack_pairs(packer, value);
}

static bool pack_object(msgpack_packer *packer, const json_t *value) {
  json_t *object = (json_t *)(uintptr_t)value, *member;
  const char *key;
  if (looks_special(value)) {
    void *first = json_object_iter(object);
    return pack_special(packer, json_object_iter_key(first),
                        json_object_iter_value(first));
  }
  msgpack_pack_map(packer, json_object_size(value));
  json_object_foreach(object, key, member) {
    msgpack_pack_str_with_body(packer, key, strlen(key));
    if (!forkq__tool_pack_json(packer, member))
      return false;
  }
  return true;
}

static bool pack_array(msgpack_packer *packer, const json_t *value) {
  size_t i;
  json_t *element;
  msgpack_pack_array(packer, json_array_size(value));
  json_array_foreach(value, i, element) {
    if (!forkq__tool_pack_json(packer, element))
      return false;
  }
  return true;
}

bool forkq__tool_pack_json(msgpack_packer *packer, const json_t *value) {
  switch (json_typeof(value)) {
  case JSON_OBJECT:
    return pack_object(packer, value);
  case JSON_ARRAY:
    return pack_array(packer, value);
  case JSON_STRING:
    return msgpack_pack_str_with_body(packer, json_string_value(value),
                                      json_string_length(value)) == 0;
  case JSON_INTEGER:
    return msgpack_pack_int64(packer, json_integer_value(value)) == 0;
  case JSON_REAL:
    return msgpack_pack_double(packer, json_real_value(value)) == 0;
  case JSON_NULL:
    return msgpack_pack_nil(packer) == 0;
  default:
    return (json_is_true(value) ? msgpack_pack_true(packer)
                                : msgpack_pack_false(packer)) == 0;
  }
}

/* ---- printing ----------------------------------------------------------------------------- */

void forkq__tool_print_item(const msgpack_object *object, const char *data, size_t size,
                            enum forkq__tool_form form) {
  if (form == FORKQ__TOOL_AS_MSGPACK) {
    fwrite(data, 1, size, stdout);
  } else if (form == FORKQ__TOOL_AS_TEXT && object->type == MSGPACK_OBJECT_STR) {
    fwrite(object->via.str.ptr, 1, object->via.str.size, stdout);
    putchar('\n');
  } else {
    (void)forkq__tool_print_json(forkq__tool_json_of(object));
  }
}

bool forkq__tool_form_of(bool text, bool msgpack, enum forkq__tool_form *ret_form) {
  *ret_form = text      ? FORKQ__TOOL_AS_TEXT
              : msgpack ? FORKQ__TOOL_AS_MSGPACK
                        : FORKQ__TOOL_AS_JSON;
  return !(text && msgpack);
}
