#!/usr/bin/env bash
# The script of action.yml: audits, judges, writes outputs and a comment. Its exit code is that of the audit or of the
# gate, the larger of the two; nothing that happens afterwards changes it.
set -uo pipefail

out="${SALVE_OUT:-salve-report}"
gate_options=()
audit=("$SALVE_MODEL")
[ -n "${SALVE_DATA:-}" ] && audit+=("$SALVE_DATA")
audit+=(--out "$out")
[ -n "${SALVE_ARCH:-}" ] && audit+=(--arch "$SALVE_ARCH")
if [ -n "${SALVE_POLICY:-}" ]; then
  audit+=(--policy "$SALVE_POLICY")
  gate_options+=(--policy "$SALVE_POLICY")
fi
if [ -n "${SALVE_BASELINE:-}" ]; then
  audit+=(--baseline "$SALVE_BASELINE")
  gate_options+=(--baseline "$SALVE_BASELINE")
fi
if [ -n "${SALVE_ALLOW_MISMATCH:-}" ]; then
  audit+=(--allow-mismatch "$SALVE_ALLOW_MISMATCH")
  gate_options+=(--allow-mismatch "$SALVE_ALLOW_MISMATCH")
fi
[ -n "${SALVE_CACHE:-}" ] && audit+=(--cache "$SALVE_CACHE")
while IFS= read -r option; do # one option a line, so that values may have spaces
  [ -n "$option" ] && audit+=("$option")
done <<<"${SALVE_OPTIONS:-}"

# what an earlier run has judged is no verdict on this one
rm -f "$out"/verdict.md "$out"/verdict.sarif "$out"/verdict.json "$out"/junit.xml

salve-audit "${audit[@]}"
code=$?

# prints 1 where the audit was judged under a policy, of whatever file
has_policy() {
  [ -n "${SALVE_POLICY:-}" ] && echo 1 && return
  python -c 'import json, sys; print(1 if json.load(open(sys.argv[1]))["verdict"]["policy"] is not None else 0)' \
    "$out/audit.json" || echo 1
}

verdict="not judged"
why=""
if [ "$code" -le 2 ] && [ -f "$out/audit.json" ] && [ ! -e "$out/stale.txt" ] && [ "$(has_policy)" = 0 ]; then
  verdict="no policy"
  why="The audit is done, and no policy is in force: nothing was judged. salve-audit gate AUDIT --init proposes one."
  [ "$code" -eq 0 ] && [ "${SALVE_ALLOW_NO_POLICY:-false}" != true ] && code=2
elif [ "$code" -le 2 ] && [ -f "$out/audit.json" ] && [ ! -e "$out/stale.txt" ]; then
  salve-audit gate "$out" --quiet "${gate_options[@]}" --format "markdown=$out/verdict.md" \
    --format "junit=$out/junit.xml" --format "sarif=$out/verdict.sarif" --format "json=$out/verdict.json"
  gated=$?
  if [ -f "$out/verdict.json" ]; then
    verdict="$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["word"])' "$out/verdict.json")"
  else
    why="The gate ended without a verdict; the log of this step says why."
  fi
  [ "$gated" -gt "$code" ] && code=$gated
else
  why="The audit did not finish; the log of this step says why."
  [ "$code" -lt 2 ] && why="The audit is done, and left no audit.json to judge: json has to be among its formats." && code=2
fi
if [ -n "$why" ]; then
  heading="## ⛔ salve-audit: NOT JUDGED"
  [ "$verdict" = "no policy" ] && heading="## salve-audit: no policy"
  [ -n "${GITHUB_STEP_SUMMARY:-}" ] && printf '%s\n\n%s\n' "$heading" "$why" >>"$GITHUB_STEP_SUMMARY"
fi

{
  echo "exit-code=$code"
  echo "verdict=$verdict"
  echo "report=$out"
} >>"$GITHUB_OUTPUT"

comment() {
  local number body marker='<!-- salve-audit -->' id
  number="$(python -c 'import json, sys; print(json.load(open(sys.argv[1])).get("pull_request", {}).get("number", ""))' \
    "$GITHUB_EVENT_PATH")" || return 1
  [ -n "$number" ] || return 0
  body="$(mktemp)"
  printf '%s\n' "$marker" >"$body"
  if [ -f "$out/verdict.md" ]; then
    cat "$out/verdict.md" >>"$body"
  else
    printf '%s\n\n%s\n' "$heading" "$why" >>"$body"
  fi
  id="$(gh api "repos/$GITHUB_REPOSITORY/issues/$number/comments" --paginate \
    --jq ".[] | select(.body | startswith(\"$marker\")) | .id" | head -n 1)" || return 1
  if [ -n "$id" ]; then
    gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" -F "body=@$body" --silent
  else
    gh api --method POST "repos/$GITHUB_REPOSITORY/issues/$number/comments" -F "body=@$body" --silent
  fi
}

if [ "${SALVE_COMMENT:-false}" = true ] && [ -n "${GITHUB_EVENT_PATH:-}" ]; then
  comment || echo "::warning title=salve-audit::the pull request could not be commented on (a fork's token may not)"
fi

exit "$code"
