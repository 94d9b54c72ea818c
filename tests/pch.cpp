// Gives tests/pch.h a target to be compiled for.
