"""The command line: parse, call the library, print, exit code. One file per command; click only here."""
