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
[ -n "${SALVE_CACHE:-}" ] && audit+=(--cache "$SALVE_CACHE")
while IFS= read -r option; do # one option a line, so that values may have spaces
  [ -n "$option" ] && audit+=("$option")
done <<<"${SALVE_OPTIONS:-}"

# what an earlier run has judged is no verdict on this one
rm -f "$out"/verdict.md "$out"/verdict.sarif "$out"/verdict.json "$out"/junit.xml

salve-audit "${audit[@]}"
code=$?

verdict="not judged"
if [ "$code" -le 2 ] && [ -f "$out/audit.json" ] && [ ! -e "$out/stale.txt" ]; then
  salve-audit gate "$out" --quiet "${gate_options[@]}" --format "markdown=$out/verdict.md" \
    --format "junit=$out/junit.xml" --format "sarif=$out/verdict.sarif" --format "json=$out/verdict.json"
  gated=$?
  # an audit without any policy has nothing to judge: the gate says so with 2 and writes nothing
  if [ -f "$out/verdict.json" ]; then
    verdict="$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["word"])' "$out/verdict.json")"
    [ "$gated" -gt "$code" ] && code=$gated
  fi
elif [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
  printf '## ⛔ salve-audit: NOT JUDGED\n\nThe audit did not finish; the log of this step says why.\n' >>"$GITHUB_STEP_SUMMARY"
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
    printf '## ⛔ salve-audit: NOT JUDGED\n\nThe audit did not finish.\n' >>"$body"
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
