"""One image explained: what the model says, which features say it, where they look, and what an edit changes.

`request` holds the wishes, `subject` finds audit and model again, `decomposition` takes a logit apart, `flips`
finds what each feature carries, `edits` changes the head, `maps` shows where; `run` does all of it into `findings`,
which `as_json`, `page` and `figure` render; as text the command line prints them (`cli.explain_text`).

The package can be called: ``salve_audit.explain(model, images, result)``; see `salve_audit.live.explanation.explain`.

Importing the package is light.
"""

from salve_audit.callable_package import make_callable

make_callable(__name__, "salve_audit.live.explanation", "explain")
