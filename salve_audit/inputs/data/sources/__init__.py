"""Sources of images: files, members of archives, rows of arrays and of tables; one module per kind."""
