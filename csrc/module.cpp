// An empty Python module: importing repq_fx._C loads this library, whose static initializers
// register every kernel. No operator is bound here.
#include <Python.h>

extern "C" PyObject* PyInit__C(void) {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  return PyModule_Create(&definition);
}
