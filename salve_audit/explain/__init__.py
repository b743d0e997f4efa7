"""One picture explained: what the model says, which features say it, where they look, and what an edit changes.

`request` says what is asked for, `subject` finds audit and model again, `decomposition` takes a logit apart, `flips`
finds what each feature carries, `edits` changes the head, `maps` shows where; `run` does all of it into `findings`,
which `text`, `page` and `figure` show.

Importing the package is light.
"""
