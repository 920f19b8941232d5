// pipeline: three stages in C++. Sensors put readings, as structs; workers sum them up, and put what they
// have as a std::map; the program itself adds up the maps. It needs msgpack-cxx for the maps.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <forkq.hpp>
#include <map>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

static const int SENSORS = 3, READINGS = 1000, WORKERS = 2;

// All processes are forks of one, so they have the same layout.
struct reading {
  int sensor;
  double value;
};

using sums = std::map<std::string, double>;

static void measure(forkq::queue &readings, int sensor) {
  for (int i = 0; i < READINGS; i++)
    readings.put_struct(reading{ sensor, 0.5 * i });
}

static void sum_up(forkq::queue &readings, forkq::queue &totals) {
  sums mine;
  while (auto got = readings.get_struct<reading>()) // until the shutdown
    mine["sensor " + std::to_string(got->sensor)] += got->value;
  totals.put(mine);
}

// Runs a stage in a child. No exception leaves it, because the frames above are the parent's.
template <typename Stage> static pid_t start(Stage stage) {
  pid_t child = fork();
  if (child != 0)
    return child;
  int status = EXIT_FAILURE;
  try {
    stage();
    status = EXIT_SUCCESS;
  } catch (const std::exception &exception) {
    std::fprintf(stderr, "pipeline: %s\n", exception.what());
  }
  std::exit(status); // sends what was put
}

static bool ended_well(pid_t child) {
  int status;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static bool run() {
  forkq::queue readings(100), totals;
  pid_t sensors[SENSORS], workers[WORKERS];
  for (int i = 0; i < SENSORS; i++)
    sensors[i] = start([&readings, i] { measure(readings, i); });
  for (pid_t &worker : workers)
    worker = start([&readings, &totals] { sum_up(readings, totals); });

  bool ok = true;
  for (pid_t sensor : sensors)
    ok = ended_well(sensor) && ok;
  readings.shutdown(); // the workers get what is left, and then the end
  for (pid_t worker : workers)
    ok = ended_well(worker) && ok;
  totals.shutdown();

  sums all;
  while (auto total = totals.get<sums>())
    for (const auto &entry : *total)
      all[entry.first] += entry.second;
  for (const auto &entry : all)
    std::printf("%s: %.1f\n", entry.first.c_str(), entry.second);
  return ok;
}

int main() {
  try {
    return run() ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception &exception) {
    std::fprintf(stderr, "pipeline: %s\n", exception.what());
    return EXIT_FAILURE;
  }
}
