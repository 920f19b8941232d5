/* The subcommands, most of them in a file of their own name. */
#ifndef FORKQ_TOOL_COMMANDS_H
#define FORKQ_TOOL_COMMANDS_H

#include "tool/tool.h"

extern const struct forkq__tool_command forkq__tool_ls;
extern const struct forkq__tool_command forkq__tool_show;
extern const struct forkq__tool_command forkq__tool_top;
extern const struct forkq__tool_command forkq__tool_why;
extern const struct forkq__tool_command forkq__tool_doctor;
extern const struct forkq__tool_command forkq__tool_metrics;
extern const struct forkq__tool_command forkq__tool_put;
extern const struct forkq__tool_command forkq__tool_get;
extern const struct forkq__tool_command forkq__tool_peek;
extern const struct forkq__tool_command forkq__tool_drain;
extern const struct forkq__tool_command forkq__tool_shutdown;
extern const struct forkq__tool_command forkq__tool_serve;

#endif
