/* forkq top: the queues, live. */
#include "tool/commands.h"
#include "tool/rates.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct top {
  struct forkq__tool_rates rates;
  pid_t pid;
  int interval_ms;
  enum forkq__tool_order order;
  FILE *csv; /* NULL: none */
};

static void record(struct top *top) {
  if (top->csv == NULL)
    return;
  forkq__tool_rates_csv(&top->rates, top->csv);
  fflush(top->csv);
}

/* Returns 0 or an error, which is said when there is no screen. */
static int look(struct top *top) {
  int r = forkq__tool_rates_look(&top->rates, top->pid);
  if (r == 0)
    forkq__tool_rates_sort(&top->rates, top->order);
  return r;
}

static void pause_between(const struct top *top) {
  (void)poll(NULL, 0, top->interval_ms);
}

/* ---- without a screen --------------------------------------------------------------------- */

static void print(const struct top *top) {
  char line[FORKQ__TOOL_LINE];
  puts(forkq__tool_rates_head());
  for (size_t i = 0; i < top->rates.count; i++) {
    forkq__tool_rates_line(&top->rates.rows[i], line);
    puts(line);
  }
}

static int print_json(const struct top *top) {
  json_t *array = json_array();
  for (size_t i = 0; i < top->rates.count; i++) {
    const struct forkq__tool_row *row = &top->rates.rows[i];
    json_t *object = forkq__tool_queue_json(row->queue, false);
    json_object_set_new(object, "puts_per_second", json_real(row->puts));
    json_object_set_new(object, "gets_per_second", json_real(row->gets));
    json_array_append_new(array, object);
  }
  return forkq__tool_print_json(array);
}

/* Two looks, for the rates. */
static int once(struct top *top, bool json) {
  int r = look(top);
  if (r == 0) {
    pause_between(top);
    r = look(top);
  }
  if (r < 0)
    return forkq__tool_say_no_look(r, top->pid);
  record(top);
  if (json)
    return print_json(top);
  print(top);
  return FORKQ__TOOL_OK;
}

/* Until it is killed. */
static int record_all(struct top *top) {
  int r;
  while ((r = look(top)) == 0 && !ferror(top->csv)) {
    record(top);
    pause_between(top);
  }
  return r < 0 ? forkq__tool_say_no_look(r, top->pid)
               : forkq__tool_say("cannot write the file");
}

/* ---- on a screen -------------------------------------------------------------------------- */

static void draw(const struct top *top) {
  char line[FORKQ__TOOL_LINE];
  int rows = getmaxy(stdscr);
  erase();
  mvprintw(0, 0, "forkq top: %zu queues, by %s", top->rates.count,
           forkq__tool_order_name(top->order));
  attron(A_REVERSE);
  mvaddnstr(1, 0, forkq__tool_rates_head(), COLS);
  attroff(A_REVERSE);
  for (int i = 0; i < rows - 3 && (size_t)i < top->rates.count; i++) {
    forkq__tool_rates_line(&top->rates.rows[i], line);
    mvaddnstr(2 + i, 0, line, COLS);
  }
  mvaddnstr(rows - 1, 0, "q quit   sort by: f fullness  n name  p puts  g gets  u unsent",
            COLS);
  move(rows - 1, 0);
  refresh();
}

/* Returns false if the key ends the program. */
static bool take_key(struct top *top, int key) {
  static const char keys[] = "fnpgu"; /* in the order of the enum */
  const char *at = key > 0 && key < 127 ? strchr(keys, key) : NULL;
  if (at != NULL) {
    top->order = (enum forkq__tool_order)(at - keys);
    forkq__tool_rates_sort(&top->rates, top->order);
  }
  return key != 'q' && key != 'Q';
}

/* From a terminal that is gone no key comes, and nobody waits for one. */
static bool is_gone(void) {
  struct pollfd polled = { .fd = STDIN_FILENO };
  return poll(&polled, 1, 0) > 0;
}

/* Until a key ends the program, the terminal is gone, or it cannot look. Returns 0 or the error of that. */
static int live(struct top *top) {
  int r;
  while ((r = look(top)) == 0 && !is_gone()) {
    int key;
    record(top);
    timeout(top->interval_ms);
    do {
      draw(top);
      key = getch();
      if (!take_key(top, key))
        return 0;
    } while (key != ERR);
  }
  return r;
}

/* At SIGTERM and SIGINT ncurses itself restores the terminal and ends the program; at others it does not. */
static void end_with_sigterm(int signal) {
  (void)signal;
  raise(SIGTERM);
}

static void end_at_signals(void) {
  static const int signals[] = { SIGQUIT, SIGHUP };
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
    if (signal(signals[i], end_with_sigterm) == SIG_IGN)
      (void)signal(signals[i], SIG_IGN);
}

static int on_screen(struct top *top) {
  const SCREEN *screen = newterm(NULL, stdout, stdin);
  if (screen == NULL)
    return forkq__tool_say("no terminal that can be drawn on: see $TERM, or use --once");
  end_at_signals();
  cbreak();
  noecho();
  int r = live(top);
  endwin();
  return r < 0 ? forkq__tool_say_no_look(r, top->pid) : FORKQ__TOOL_OK;
}

/* ---- arguments ---------------------------------------------------------------------------- */

static int open_csv(struct top *top, const char *path) {
  if (path == NULL)
    return FORKQ__TOOL_GOES_ON;
  top->csv = fopen(path, "ae");
  if (top->csv == NULL)
    return forkq__tool_say_error(-errno, "%s", path);
  if (ftell(top->csv) == 0)
    forkq__tool_rates_csv_head(top->csv);
  return FORKQ__TOOL_GOES_ON;
}

static int show(struct top *top, bool is_once, bool json) {
  if (is_once || json)
    return once(top, json);
  if (isatty(STDOUT_FILENO) && isatty(STDIN_FILENO))
    return on_screen(top);
  return top->csv != NULL ? record_all(top)
                          : forkq__tool_say("no terminal: use --once or --csv");
}

static int run(const struct forkq__tool_command *self, int argc, char **argv) {
  struct top top = { .interval_ms = 1000 };
  bool is_once = false, json = false;
  const char *csv = NULL;
  const struct forkq__tool_option options[] = {
    { .name = "once", .help = "print one interval, and end", .flag = &is_once },
    { .name = "interval",
      .argument = "SECONDS",
      .help = "between two looks; 1 if not told otherwise",
      .timeout_ms = &top.interval_ms },
    { .name = "csv",
      .argument = "FILE",
      .help = "add the numbers to a file",
      .text = &csv },
    { .name = "json", .help = "as --once, as JSON", .flag = &json },
    { 0 },
  };
  int code = forkq__tool_parse(self, options, &argc, argv);
  if (code != FORKQ__TOOL_GOES_ON)
    return code;
  if (argc > 1 || (argc == 1 && !forkq__tool_is_pid(argv[0], &top.pid)))
    return forkq__tool_misuse(self, "one process, or none");
  code = open_csv(&top, csv);
  if (code == FORKQ__TOOL_GOES_ON)
    code = show(&top, is_once, json);
  if (top.csv != NULL && fclose(top.csv) != 0 && code == FORKQ__TOOL_OK)
    code = forkq__tool_say_error(-errno, "%s", csv);
  forkq__tool_rates_end(&top.rates);
  return code;
}

const struct forkq__tool_command forkq__tool_top = { "top", "[PID]",
                                                     "the queues, live, with rates",
                                                     run };
