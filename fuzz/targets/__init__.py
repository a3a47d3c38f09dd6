"""What is fuzzed: each module has a function `one_input`."""
