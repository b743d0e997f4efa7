"""Where pictures come from: files, members of archives, rows of arrays and of tables. One file per kind."""
