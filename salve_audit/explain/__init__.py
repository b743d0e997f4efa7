"""One image explained: what the model says, which features say it, where they look, and what an edit changes.

`request` holds the wishes, `subject` finds audit and model again, `decomposition` takes a logit apart, `flips`
finds what each feature carries, `edits` changes the head, `maps` shows where; `run` does all of it into `findings`,
which `as_json`, `page` and `figure` render; as text the command line prints them (`cli.explain_text`).

Importing the package is light.
"""
