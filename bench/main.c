/* Measures forkq beside its peers. ./dev bench runs it; docs/benchmarks.md says how to read
 * what it prints. */
#define _GNU_SOURCE
#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>

#include "campaign.h"
#include "memory.h"
#include "output.h"

#define ROUNDS 5
#define SECONDS 0.2
#define QUICK_ROUNDS 3
#define QUICK_SECONDS 0.1

struct arguments {
  bool quick, list;
  const char *only, *alone, *out;
  uint64_t messages;
  struct campaign campaign;
};

static void usage(FILE *file) {
  fputs("usage: ./dev bench [OPTION...]\n"
        "  --quick          a small choice, within two minutes\n"
        "  --only PATTERN   only what has it in its name, as in a shell: "
        "'/4x4/64/',\n"
        "                   'round trip', '/zmq'; forkq always runs beside it\n"
        "  --list           print those names, and measure nothing\n"
        "  --rounds N       how often each runs: 1 to 25, otherwise 5\n"
        "  --seconds S      how long a run lasts, otherwise 0.2\n"
        "  --alone NAME     one contender alone, once; prints its messages, of each "
        "producer,\n"
        "                   the seconds and CPU seconds\n"
        "  --messages N     that many, with --alone, otherwise as many as take the "
        "time\n"
        "  --out DIR        where results.{json,csv,md} go, otherwise build/bench\n",
        file);
}

static void bad_usage(void) {
  usage(stderr);
  exit(2);
}

static double number(const char *text, double least, double greatest) {
  char *end;
  double value = strtod(text, &end);
  if (*end != '\0' || !(value >= least && value <= greatest))
    bad_usage();
  return value;
}

static struct arguments parse(int argc, char **argv) {
  static const struct option options[] = {
    { "quick", no_argument, NULL, 'q' },
    { "list", no_argument, NULL, 'l' },
    { "only", required_argument, NULL, 'o' },
    { "alone", required_argument, NULL, 'a' },
    { "messages", required_argument, NULL, 'm' },
    { "rounds", required_argument, NULL, 'r' },
    { "seconds", required_argument, NULL, 's' },
    { "out", required_argument, NULL, 'd' },
    { "help", no_argument, NULL, 'h' },
    { 0 },
  };
  struct arguments arguments = { .out = "." };
  for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;)
    switch (option) {
    case 'q':
      arguments.quick = true;
      break;
    case 'l':
      arguments.list = true;
      break;
    case 'o':
      arguments.only = optarg;
      break;
    case 'a':
      arguments.only = arguments.alone = optarg;
      break;
    case 'm':
      arguments.messages = (uint64_t)number(optarg, 1, 1e12);
      break;
    case 'd':
      arguments.out = optarg;
      break;
    case 'r':
      arguments.campaign.rounds = (unsigned)number(optarg, 1, ROUNDS_MAX);
      break;
    case 's':
      arguments.campaign.seconds = number(optarg, 0.001, 30);
      break;
    case 'h':
      usage(stdout);
      exit(EXIT_SUCCESS);
    default:
      bad_usage();
    }
  if (optind < argc)
    bad_usage();
  if (arguments.campaign.rounds == 0)
    arguments.campaign.rounds = arguments.quick ? QUICK_ROUNDS : ROUNDS;
  if (!(arguments.campaign.seconds > 0))
    arguments.campaign.seconds = arguments.quick ? QUICK_SECONDS : SECONDS;
  return arguments;
}

static void list(const struct plan *plan) {
  char path[128];
  for (unsigned i = 0; i < plan->cells; i++)
    for (unsigned j = 0; j < plan->cell[i].contenders; j++) {
      plan_path(&plan->cell[i], &plan->cell[i].contender[j], path, sizeof path);
      puts(path);
    }
}

static void save(const char *directory, const char *name,
                 void (*output)(FILE *file, const struct results *results),
                 const struct results *results) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  FILE *file = fopen(path, "we");
  if (file == NULL)
    err(EXIT_FAILURE, "%s", path);
  output(file, results);
  if (ferror(file) || fclose(file) != 0)
    err(EXIT_FAILURE, "%s", path);
}

static int run_alone(const struct plan *plan, const struct arguments *arguments) {
  uint64_t messages = arguments->messages;
  struct outcome outcome;
  if (!campaign_run_alone(plan, arguments->alone, arguments->campaign.seconds, &messages,
                          &outcome))
    errx(EXIT_FAILURE, "failed, or not to be had: %s", arguments->alone);
  printf("%ju %.6f %.6f\n", (uintmax_t)messages, outcome.seconds, outcome.cpu_seconds);
  return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
  struct arguments arguments = parse(argc, argv);
  struct plan *plan = plan_make(arguments.quick, arguments.only);
  if (plan->cells == 0)
    errx(2, "nothing has %s in its name; see --list", arguments.only);
  if (arguments.list) {
    list(plan);
    return EXIT_SUCCESS;
  }
  if (arguments.alone != NULL)
    return run_alone(plan, &arguments);
  mkdir(arguments.out, 0777);
  for (const char *const *name = peers_missing; *name != NULL; name++)
    warnx("not installed, left out: %s", *name);
  struct results results = {
    .plan = plan,
    .rounds = arguments.campaign.rounds,
    .quick = arguments.quick,
  };
  if (arguments.only == NULL)
    results.memory = memory_measure();
  unsigned failed = campaign_run(plan, &arguments.campaign);
  save(arguments.out, "results.json", output_json, &results);
  save(arguments.out, "results.csv", output_csv, &results);
  save(arguments.out, "results.md", output_tables, &results);
  output_tables(stdout, &results);
  free(plan);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
