// pipeline: three stages in C++. Sensors put readings, as structs; workers sum them up, and put what they
// have as a std::map; the program itself adds up the maps. It needs msgpack-cxx for the maps.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <forkq.hpp>
#include <map>
#include <string>
#include <vector>

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

static bool ended_well(std::vector<forkq::process> &processes) {
  bool ok = true;
  for (forkq::process &process : processes) {
    process.join();
    ok = *process.exitcode() == 0 && ok;
  }
  return ok;
}

// A stage that throws ends by std::terminate, which says why.
static bool run() {
  forkq::queue readings(100), totals;
  forkq_process_options_t options = FORKQ_PROCESS_OPTIONS_INIT;
  options.daemon = 1; // if this process ends before its time
  std::vector<forkq::process> sensors, workers;
  for (int i = 0; i < SENSORS; i++)
    sensors.emplace_back([&readings, i] { measure(readings, i); }, &options);
  for (int i = 0; i < WORKERS; i++)
    workers.emplace_back([&readings, &totals] { sum_up(readings, totals); }, &options);

  bool ok = ended_well(sensors);
  readings.shutdown(); // the workers get what is left, and then the end
  ok = ended_well(workers) && ok;
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
