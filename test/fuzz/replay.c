/* TARGET FILE...: runs a fuzz target on the files, or on all files of a directory. */
#include "fuzz.h"

#include <dirent.h>
#include <err.h>
#include <string.h>
#include <sys/stat.h>

static long inputs;

static void replay_file(const char *path) {
  FILE *file = fopen(path, "rbe");
  struct stat status;
  if (file == NULL || fstat(fileno(file), &status) != 0)
    err(EXIT_FAILURE, "%s", path);
  size_t size = (size_t)status.st_size;
  /* Exactly as large as the input, so that a sanitizer sees a read behind its end. */
  uint8_t *data = malloc(size > 0 ? size : 1);
  if (data == NULL || fread(data, 1, size, file) != size)
    err(EXIT_FAILURE, "%s", path);
  fclose(file);
  (void)LLVMFuzzerTestOneInput(data, size);
  free(data);
  inputs++;
}

static void replay_directory(DIR *directory, const char *path) {
  char name[4096];
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] == '.')
      continue;
    snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
    replay_file(name);
  }
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    DIR *directory = opendir(argv[i]);
    if (directory == NULL) {
      replay_file(argv[i]);
    } else {
      replay_directory(directory, argv[i]);
      closedir(directory);
    }
  }
  printf("%ld inputs\n", inputs);
  return inputs > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
