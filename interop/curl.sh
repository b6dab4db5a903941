#!/usr/bin/env bash
# What the README shows, with curl alone.
set -euo pipefail
body='{"model":"sim:tokens=5","stream":true,"messages":[{"role":"user","content":"hi"}]}'
answer=$(curl -sSN --max-time 10 "$INTEROP_GATEWAY/chat/completions" -H 'content-type: application/json' -d "$body")
[ "$(grep -c '^data: {' <<< "$answer")" = 7 ]
[ "$(tail -n 2 <<< "$answer" | head -n 1)" = 'data: [DONE]' ] || [ "$(tail -n 1 <<< "$answer")" = 'data: [DONE]' ]
echo "curl: 7 events and the end mark"
