/* Items as text: JSON, lines of text, or the msgpack bytes as they are.
 *
 * What JSON lacks is an object with one key: {"$bin": BASE64}, {"$ext": [TYPE, BASE64]}, {"$str": BASE64} for
 * a string that is not UTF-8, {"$float": "nan"}, "inf" or "-inf", {"$uint": "DIGITS"} above 2^63 - 1, and
 * {"$map": [[KEY, VALUE], ...]} for a map of which a key is no string, or occurs twice, or whose only key begins
 * with "$". What get prints, put takes: the object is the same, but a float of 32 bits has 64 then. */
#ifndef FORKQ_TOOL_ITEMS_H
#define FORKQ_TOOL_ITEMS_H

#include "tool/look.h"

enum forkq__tool_form {
  FORKQ__TOOL_AS_JSON,
  FORKQ__TOOL_AS_TEXT,
  FORKQ__TOOL_AS_MSGPACK
};

/* The object as JSON; NULL: no memory. */
json_t *forkq__tool_json_of(const msgpack_object *object);

/* Packs what the JSON means into the buffer. False: a form with "$" is not one of those above. */
bool forkq__tool_pack_json(msgpack_packer *packer, const json_t *value);

/* Prints an item: as JSON on a line; as text, a line without quotes if it is a string; or its bytes. */
void forkq__tool_print_item(const msgpack_object *object, const char *data, size_t size,
                            enum forkq__tool_form form);

/* The form that two options ask for. False: both. */
bool forkq__tool_form_of(bool text, bool msgpack, enum forkq__tool_form *ret_form);

#endif
