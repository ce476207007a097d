"""Bytecode: compiling, checking, loading."""
