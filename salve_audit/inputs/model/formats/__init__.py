"""Files that hold a model, distinguished by their bytes and read without running anything in them.

`sniff` says what a file is, `opcodes` what a pickle would import, `nesting` where in a dictionary the weights are,
`hub` reads folders with a config.json; `trusted` and the modules it calls run code, after ``--trust-model`` alone.
"""
