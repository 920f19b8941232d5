/* Error codes as texts and as names. FORKQ_ERROR_MAP (forkq/base.h) has forkq's own codes. */
#define _GNU_SOURCE
#include "base/libc.h"

#include <forkq/base.h>

#include <limits.h>
#include <string.h>

const char *forkq_version(void) {
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
  return TEXT(FORKQ_VERSION_MAJOR) "." TEXT(FORKQ_VERSION_MINOR) "." TEXT(
      FORKQ_VERSION_PATCH);
}

/* -INT_MIN would overflow. INT_MAX is no errno either. */
static int positive(int error) {
  return error == INT_MIN ? INT_MAX : error < 0 ? -error : error;
}

const char *forkq_strerror(int error) {
  switch (error) {
#define XX(name, value, text)                                                            \
  case value:                                                                            \
    return text;
    FORKQ_ERROR_MAP(XX)
#undef XX
  default:
    return strerror(positive(error));
  }
}

const char *forkq_error_name(int error) {
  const char *name = NULL;
  switch (error) {
#define XX(name_, value, text)                                                           \
  case value:                                                                            \
    return "FORKQ_" #name_;
    FORKQ_ERROR_MAP(XX)
#undef XX
  default:
    name = error < 0 ? forkq__libc_error_name(positive(error)) : NULL;
    return name != NULL ? name : "UNKNOWN";
  }
}
