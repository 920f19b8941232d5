#include "output.h"

#include "figures.h"
#include "machine.h"

#define FACTS_MAX 16

/* "4.24M", "21.5k". */
static const char *short_rate(double rate, char text[16]) {
  if (rate >= 999500)
    snprintf(text, 16, "%.3gM", rate / 1e6);
  else if (rate >= 999.5)
    snprintf(text, 16, "%.3gk", rate / 1e3);
  else
    snprintf(text, 16, "%.3g", rate);
  return text;
}

static void print_throughput(FILE *file, const struct figures *figures) {
  char median[16], least[16], greatest[16];
  fprintf(file, " %s | %s | %s |", short_rate(figures->rate.median, median),
          short_rate(figures->rate.least, least),
          short_rate(figures->rate.greatest, greatest));
}

static void print_round_trip(FILE *file, const struct figures *figures) {
  fprintf(file, " %.3g | %.3g | %.3g |", figures->quantiles[FIGURES_P50],
          figures->quantiles[FIGURES_P99], figures->quantiles[FIGURES_P999]);
}

static void print_heading(FILE *file, const struct cell *cell) {
  bool trips = cell->measure == MEASURE_ROUND_TRIP;
  fprintf(file, "\n### %s\n\n", cell->section);
  fprintf(file, "| %s | bytes | | %s | forkq is, times as fast | CPU us | MiB |\n",
          trips ? "where" : "processes",
          trips ? "p50 us | p99 us | p99.9 us" : "1/s, median | least | greatest");
  fputs("|---|--:|---|--:|--:|--:|--:|--:|--:|\n", file);
}

static void print_contender(FILE *file, const struct cell *cell,
                            const struct contender *contender) {
  struct figures figures = figures_of(cell, contender);
  char shape[32];
  plan_shape(cell, shape, sizeof shape);
  fprintf(file, "| %s | %zu | %s |", shape, cell->load.size, contender->peer->label);
  if (!figures.complete) {
    fputs(" failed | | | | | |\n", file);
    return;
  }
  if (cell->measure == MEASURE_ROUND_TRIP)
    print_round_trip(file, &figures);
  else
    print_throughput(file, &figures);
  fprintf(file, " %.3g (%.3g to %.3g) | %.3g | %.3g |\n", figures.ratio.median,
          figures.ratio.least, figures.ratio.greatest, figures.cpu_us, figures.peak_mib);
}

static void print_facts(FILE *file) {
  struct machine_fact facts[FACTS_MAX];
  size_t count = machine_facts(facts, FACTS_MAX);
  for (size_t i = 0; i < count; i++)
    fprintf(file, "- %s: %s\n", facts[i].name, facts[i].value);
  for (const char *const *name = peers_missing; *name != NULL; name++)
    fprintf(file, "- not installed, left out: %s\n", *name);
}

void output_tables(FILE *file, const struct results *results) {
  const char *section = "";
  print_facts(file);
  for (unsigned i = 0; i < results->plan->cells; i++) {
    const struct cell *cell = &results->plan->cell[i];
    if (strcmp(section, cell->section) != 0)
      print_heading(file, cell);
    section = cell->section;
    for (unsigned j = 0; j < cell->contenders; j++)
      print_contender(file, cell, &cell->contender[j]);
  }
  if (results->memory.ok)
    fprintf(file,
            "\n### memory\n\n| | |\n|---|--:|\n"
            "| a queued message of 64 bytes, beyond these | %.1f bytes |\n"
            "| an idle queue | %.0f KiB |\n"
            "| a process that has put, shared | %.2f KiB |\n",
            results->memory.message_bytes, results->memory.queue_kib,
            results->memory.process_kib);
}

void output_csv(FILE *file, const struct results *results) {
  fputs("section,shape,bytes,peer,rate,rate_least,rate_greatest,ratio,ratio_least,"
        "ratio_greatest,cpu_us,peak_mib,mean_us,p50_us,p99_us,p99_9_us\n",
        file);
  for (unsigned i = 0; i < results->plan->cells; i++)
    for (unsigned j = 0; j < results->plan->cell[i].contenders; j++) {
      const struct cell *cell = &results->plan->cell[i];
      struct figures f = figures_of(cell, &cell->contender[j]);
      char shape[32];
      plan_shape(cell, shape, sizeof shape);
      if (!f.complete)
        continue;
      fprintf(file, "\"%s\",%s,%zu,%s,%.6g,%.6g,%.6g,%.4g,%.4g,%.4g,%.4g,%.4g",
              cell->section, shape, cell->load.size, cell->contender[j].peer->name,
              f.rate.median, f.rate.least, f.rate.greatest, f.ratio.median, f.ratio.least,
              f.ratio.greatest, f.cpu_us, f.peak_mib);
      if (cell->measure == MEASURE_ROUND_TRIP)
        fprintf(file, ",%.4g,%.4g,%.4g,%.4g\n", f.mean, f.quantiles[FIGURES_P50],
                f.quantiles[FIGURES_P99], f.quantiles[FIGURES_P999]);
      else
        fputs(",,,,\n", file);
    }
}

/* ---- JSON: none of the texts has a character that must be escaped ------------------- */

static void json_range(FILE *file, const char *name, const struct range *range) {
  fprintf(file, "\"%s\": [%.6g, %.6g, %.6g], ", name, range->median, range->least,
          range->greatest);
}

static void json_rounds(FILE *file, const struct cell *cell,
                        const struct contender *contender) {
  fputs("\"rounds\": [", file);
  for (unsigned i = 0; i < contender->rounds; i++) {
    const struct outcome *outcome = &contender->outcomes[i];
    fprintf(file, "%s{\"rate\": %.6g, \"seconds\": %.6g, \"cpu_seconds\": %.6g, ",
            i > 0 ? ", " : "", figures_rate(cell, contender, i), outcome->seconds,
            outcome->cpu_seconds);
    fprintf(file, "\"peak_kib\": %.0f, \"p50\": %.6g}", outcome->peak_kib,
            outcome->quantiles[FIGURES_P50]);
  }
  fputs("]", file);
}

static void json_contender(FILE *file, const struct cell *cell,
                           const struct contender *contender) {
  struct figures figures = figures_of(cell, contender);
  fprintf(file, "{\"peer\": \"%s\", \"label\": \"%s\", \"ok\": %s", contender->peer->name,
          contender->peer->label, figures.complete ? "true" : "false");
  if (figures.complete) {
    fprintf(file, ", \"messages\": %ju, ", (uintmax_t)contender->messages);
    json_range(file, "rate", &figures.rate);
    json_range(file, "ratio", &figures.ratio);
    fprintf(file, "\"cpu_us\": %.4g, \"peak_mib\": %.4g, ", figures.cpu_us,
            figures.peak_mib);
    if (cell->measure == MEASURE_ROUND_TRIP) {
      fprintf(file, "\"mean\": %.4g, \"quantiles\": [", figures.mean);
      for (int i = 0; i < QUANTILES; i++)
        fprintf(file, "%s%.4g", i > 0 ? ", " : "", figures.quantiles[i]);
      fputs("], ", file);
    }
    json_rounds(file, cell, contender);
  }
  fputs("}", file);
}

static void json_cell(FILE *file, const struct cell *cell) {
  char shape[32];
  plan_shape(cell, shape, sizeof shape);
  fprintf(file,
          "  {\"section\": \"%s\", \"shape\": \"%s\", \"bytes\": %zu, \"bound\": %u, "
          "\"contenders\": [\n",
          cell->section, shape, cell->load.size,
          cell->load.bounded ? cell->load.bound : 0);
  for (unsigned i = 0; i < cell->contenders; i++) {
    fputs("    ", file);
    json_contender(file, cell, &cell->contender[i]);
    fputs(i + 1 < cell->contenders ? ",\n" : "\n", file);
  }
  fputs("  ]}", file);
}

static void json_head(FILE *file, const struct results *results) {
  struct machine_fact facts[FACTS_MAX];
  size_t count = machine_facts(facts, FACTS_MAX);
  fputs("{\n\"machine\": {", file);
  for (size_t i = 0; i < count; i++)
    fprintf(file, "%s\"%s\": \"%s\"", i > 0 ? ", " : "", facts[i].name, facts[i].value);
  fputs("},\n\"missing\": [", file);
  for (const char *const *name = peers_missing; *name != NULL; name++)
    fprintf(file, "%s\"%s\"", name > peers_missing ? ", " : "", *name);
  fprintf(file, "],\n\"rounds\": %u,\n\"quick\": %s,\n\"quantile_at\": [",
          results->rounds, results->quick ? "true" : "false");
  for (int i = 0; i < QUANTILES; i++)
    fprintf(file, "%s%g", i > 0 ? ", " : "", quantile_at[i]);
  fputs("],\n", file);
  if (results->memory.ok)
    fprintf(file,
            "\"memory\": {\"message_bytes\": %.4g, \"queue_kib\": %.4g, "
            "\"process_kib\": %.4g},\n",
            results->memory.message_bytes, results->memory.queue_kib,
            results->memory.process_kib);
}

void output_json(FILE *file, const struct results *results) {
  json_head(file, results);
  fputs("\"cells\": [\n", file);
  for (unsigned i = 0; i < results->plan->cells; i++) {
    json_cell(file, &results->plan->cell[i]);
    fputs(i + 1 < results->plan->cells ? ",\n" : "\n", file);
  }
  fputs("]\n}\n", file);
}
