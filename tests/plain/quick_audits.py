"""Options of audits that take seconds, for tests of what is read and written rather than of what is measured."""

PAPER = (
    *("--format", "json", "--interventions", "salve", "--no-cache"),
    *("--sae", "paper", "--evidence", "off", "--no-images"),
)
ONE_SEED = (
    *("--sae", "linear-l1", "--n-latents", "8", "--sae-seeds", "1"),
    *("--interventions", "salve", "--deep-edits", "off"),
)
