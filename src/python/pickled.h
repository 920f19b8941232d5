/* Pickles, whose parts are sent from where they lie. */
#ifndef FORKQ_PYTHON_PICKLED_H
#define FORKQ_PYTHON_PICKLED_H

#include "python/python.h"

/* A pickle: bytes that follow each other, and buffers that the object has beside them, as a numpy array has.
 * Parts are what an item has, in this order; each belongs to an object, which the view keeps and protects
 * from changes of its size. */
struct forkq__py_pickled {
  Py_buffer *views;
  size_t count;
  size_t size; /* of all of them */
  char *head;  /* of an item with buffers: how many there are, and how large each is */
  size_t head_size;
  bool has_buffers;
};

/* Pickles an object with protocol 5, as multiprocessing does: with the reducers that were registered with
 * multiprocessing.reduction. */
int forkq__py_pickle(struct forkq__py_pickled *ret_pickled, PyObject *object);
void forkq__py_pickled_end(struct forkq__py_pickled *pickled);

/* The object of such bytes, which are not used any more afterwards. */
PyObject *forkq__py_unpickle(const char *data, size_t size);
PyObject *forkq__py_unpickle_buffers(const char *data, size_t size);

#endif
