// All calls as one unit: most of the time that a compiler takes goes into XLA's header.

#include "linear.cc"
#include "lstm.cc"
