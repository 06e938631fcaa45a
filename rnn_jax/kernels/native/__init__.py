"""A kernel for CPUs in C++, compiled where it runs: `kernel` has the record, `library` compiles."""
