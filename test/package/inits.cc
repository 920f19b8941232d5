#include "inits.c"
