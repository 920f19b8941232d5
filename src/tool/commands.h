/* The subcommands, each in a file of its own name. */
#ifndef FORKQ_TOOL_COMMANDS_H
#define FORKQ_TOOL_COMMANDS_H

#include "tool/tool.h"

extern const struct forkq__tool_command forkq__tool_ls;
extern const struct forkq__tool_command forkq__tool_show;
extern const struct forkq__tool_command forkq__tool_why;

#endif
