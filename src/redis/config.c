/* Reading the URL. Nothing of it goes to a log. */
#define _GNU_SOURCE
#include "redis/config.h"

#include "base/versioned.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_MS 30000
#define LEASE_MS_MIN 300
#define LEASE_MS_MAX 86400000
#define ANSWER_MS 5000

static int digit_of(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Copies text of a URL, with %XX as the character. A NUL in it is not valid. */
static int unescape(const char *from, size_t size, char *to, size_t capacity) {
  size_t n = 0;
  for (size_t i = 0; i < size; i++) {
    char c = from[i];
    if (c == '%') {
      int high = i + 2 < size ? digit_of(from[i + 1]) : -1;
      int low = i + 2 < size ? digit_of(from[i + 2]) : -1;
      if (high < 0 || low < 0 || (high == 0 && low == 0))
        return FORKQ_ERANGE;
      c = (char)(high * 16 + low);
      i += 2;
    }
    if (n + 1 >= capacity)
      return FORKQ_ERANGE;
    to[n++] = c;
  }
  to[n] = '\0';
  return 0;
}

/* Decimal digits only: what strtoll(3) takes besides is not valid. */
static int number_of(const char *text, size_t size, int64_t least, int64_t most,
                     int64_t *ret_number) {
  int64_t number = 0;
  if (size == 0 || size > 18)
    return FORKQ_ERANGE;
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9')
      return FORKQ_ERANGE;
    number = number * 10 + (text[i] - '0');
  }
  *ret_number = number;
  return number < least || number > most ? FORKQ_ERANGE : 0;
}

static int read_name(const char *text, size_t size, char *to) {
  int r = unescape(text, size, to, FORKQ__REDIS_NAME_MAX + 1);
  size_t valid =
      strspn(to, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
  return r < 0 || to[0] == '\0' || to[valid] != '\0' ? FORKQ_ERANGE : 0;
}

static bool is_key(const char *text, size_t size, const char *key) {
  return strlen(key) == size && memcmp(text, key, size) == 0;
}

static int read_pair(struct forkq__redis_config *config, const char *pair, size_t size) {
  const char *value = memchr(pair, '=', size);
  if (value == NULL)
    return FORKQ_ERANGE;
  size_t key = (size_t)(value - pair), rest = size - key - 1;
  value++;
  int64_t number;
  if (is_key(pair, key, "queue"))
    return read_name(value, rest, config->name);
  if (is_key(pair, key, "maxsize"))
    return number_of(value, rest, 0, INT64_C(1) << 48, &config->maxsize);
  if (is_key(pair, key, "joinable"))
    return number_of(value, rest, 0, 1, &config->joinable);
  if (is_key(pair, key, "lease"))
    return number_of(value, rest, LEASE_MS_MIN, LEASE_MS_MAX, &config->lease_ms);
  if (is_key(pair, key, "db") && config->is_unix)
    return number_of(value, rest, 0, INT32_MAX, &config->database);
  if (!is_key(pair, key, "durable"))
    return FORKQ_ERANGE;
  int r = number_of(value, rest, 0, 1, &number);
  config->durable = r == 0 && number == 1;
  return r;
}

static int read_query(struct forkq__redis_config *config, const char *query) {
  while (*query != '\0') {
    size_t size = strcspn(query, "&");
    int r = read_pair(config, query, size);
    if (r < 0)
      return r;
    query += size + (query[size] == '&');
  }
  return config->name[0] == '\0' ? FORKQ_ERANGE : 0;
}

static int read_user(struct forkq__redis_config *config, const char *text, size_t size) {
  const char *colon = memchr(text, ':', size);
  if (colon == NULL)
    return FORKQ_ERANGE;
  size_t user = (size_t)(colon - text);
  int r = unescape(text, user, config->user, sizeof config->user);
  return r < 0 ? r
               : unescape(colon + 1, size - user - 1, config->password,
                          sizeof config->password);
}

/* host, host:port or [address]:port, and a database after a slash. */
static int read_host(struct forkq__redis_config *config, const char *text, size_t size) {
  const char *slash = memchr(text, '/', size);
  size_t place = slash != NULL ? (size_t)(slash - text) : size;
  int64_t port = 6379;
  int r = 0;
  if (slash != NULL && place + 1 < size)
    r = number_of(slash + 1, size - place - 1, 0, INT32_MAX, &config->database);
  const char *end = text + place, *begin = text, *after = NULL;
  if (place > 0 && text[0] == '[') {
    const char *bracket = memchr(text, ']', place);
    if (bracket == NULL)
      return FORKQ_ERANGE;
    begin++;
    after = bracket + 1;
    place = (size_t)(bracket - begin);
  } else {
    after = memchr(text, ':', place);
    after = after != NULL ? after : end;
    place = (size_t)(after - begin);
  }
  if (r == 0 && after != end)
    r = *after == ':' ? number_of(after + 1, (size_t)(end - after - 1), 1, 65535, &port)
                      : FORKQ_ERANGE;
  if (r < 0 || place == 0)
    return FORKQ_ERANGE;
  char *digit = config->port + sizeof config->port - 1;
  *digit = '\0';
  for (; port > 0; port /= 10)
    *--digit = (char)('0' + port % 10);
  memmove(config->port, digit, strlen(digit) + 1);
  return unescape(begin, place, config->place, sizeof config->place);
}

static int read_url(struct forkq__redis_config *config, const char *url) {
  static const char tcp[] = "redis://", local[] = "redis+unix://", tls[] = "rediss://";
  if (strncmp(url, tls, sizeof tls - 1) == 0)
    return -ENOTSUP;
  config->is_unix = strncmp(url, local, sizeof local - 1) == 0;
  if (!config->is_unix && strncmp(url, tcp, sizeof tcp - 1) != 0)
    return FORKQ_ERANGE;
  url += config->is_unix ? sizeof local - 1 : sizeof tcp - 1;
  size_t size = strcspn(url, "?");
  const char *at = memrchr(url, '@', size);
  size_t user = at != NULL ? (size_t)(at - url) : 0;
  int r = at != NULL ? read_user(config, url, user) : 0;
  const char *place = at != NULL ? at + 1 : url;
  size_t left = size - (size_t)(place - url);
  if (r == 0 && config->is_unix)
    r = left > 0 && place[0] == '/'
            ? unescape(place, left, config->place, sizeof config->place)
            : FORKQ_ERANGE;
  else if (r == 0)
    r = read_host(config, place, left);
  return r < 0 ? r : read_query(config, url + size + (url[size] == '?'));
}

static int set_text(char *to, const char *text) {
  if (text == NULL)
    return 0;
  if (strlen(text) >= FORKQ__REDIS_TEXT)
    return FORKQ_ERANGE;
  strcpy(to, text); /* NOLINT: its length was looked at */
  return 0;
}

int forkq__redis_configure(struct forkq__redis_config *ret_config, const char *url,
                           const forkq_redis_options_t *given) {
  forkq_redis_options_t options = FORKQ_REDIS_OPTIONS_INIT;
  *ret_config =
      (struct forkq__redis_config){ .maxsize = -1, .joinable = -1, .lease_ms = LEASE_MS };
  if (given != NULL) {
    if (!forkq__is_version(given->size, sizeof options, sizeof options))
      return FORKQ_ERANGE;
    memcpy(&options, given, sizeof options);
  }
  if (options.answer_ms < 0)
    return FORKQ_ERANGE;
  ret_config->answer_ms = options.answer_ms > 0 ? options.answer_ms : ANSWER_MS;
  int r = read_url(ret_config, url);
  if (r == 0 && ret_config->password[0] == '\0')
    r = set_text(ret_config->password, secure_getenv("FORKQ_REDIS_PASSWORD"));
  if (r == 0)
    r = set_text(ret_config->user, options.user);
  return r < 0 ? r : set_text(ret_config->password, options.password);
}
